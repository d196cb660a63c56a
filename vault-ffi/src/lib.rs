//! The C ABI of `vault-core`: `vault.h` and libvault.
//!
//! The contract that callers see is the first comment of the header, in `cbindgen.toml`. Every call
//! here is a thin one over the public interface of `vault-core`: what C, Python and Node can do is
//! what Rust can do, in the same words.
//!
//! Unsafe code is here and in `vault-memory` alone. Pointers cross in `boundary`, by a few functions whose
//! safety the contract of the header gives; no call unwinds into its caller, because each runs
//! inside `boundary::guard`.
#![allow(unsafe_code, reason = "pointers from C")]
#![deny(unsafe_op_in_unsafe_fn)]

mod batch;
mod boundary;
mod buf;
mod config;
mod context;
mod error;
mod handle;
mod legacy;
mod secret;
mod status;
mod token;

pub use batch::{
    Batch, Item, vault_batch_data, vault_batch_error, vault_batch_free, vault_batch_len, vault_batch_status,
    vault_open_batch, vault_seal_batch,
};
pub use boundary::{CallFailure, out};
pub use buf::{Buf, vault_buf_data, vault_buf_free, vault_buf_len};
pub use config::{
    Config, vault_config_free, vault_config_from_env, vault_config_from_file, vault_config_from_key_file,
    vault_config_from_text_key_file, vault_config_set_environment, vault_config_set_limit, vault_config_set_padding,
    vault_config_set_preset,
};
pub use context::{Context, Pair, Str, pairs};
pub use error::{
    Error, guard, vault_error_free, vault_error_hint, vault_error_kind, vault_error_message, vault_error_public_status,
    vault_error_status,
};
pub use handle::{Handle, vault_following, vault_free, vault_load, vault_refresh};
pub use legacy::{vault_legacy_open, vault_legacy_seal};
pub use secret::{
    Resolved, Versions, vault_optional_secret, vault_resolved_free, vault_resolved_note, vault_resolved_notes,
    vault_resolved_source, vault_resolved_source_kind, vault_resolved_value, vault_resolved_version, vault_secret,
    vault_versions_created, vault_versions_free, vault_versions_len, vault_versions_list, vault_versions_number,
};
pub use status::*;
pub use token::{
    Inspection, vault_context_hash, vault_inspect, vault_open, vault_open_for, vault_primary, vault_rewrap, vault_seal,
    vault_seal_for, vault_verify,
};
