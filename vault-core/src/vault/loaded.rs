//! What a vault has loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::registry::Registry;
use crate::sealer::Sealer;
use crate::store::Store;

use super::AnyKeyring;

/// Keyrings, sealer and store of one moment. It never changes: a look that finds a change puts another in
/// its place.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) keyrings: BTreeMap<String, AnyKeyring>,
    pub(super) sealer: Option<Sealer>,
    pub(super) registry: Option<Arc<dyn Registry>>,
    pub(super) store: Option<Arc<dyn Store>>,
}
