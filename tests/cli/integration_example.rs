use std::path::Path;

use vault_core::{Config, Context, Kind, Result, Vault};

pub(crate) fn application(config: &Path) -> Result<()> {
    // Config::from_env(): the file that VAULT_CORE_CONFIG names.
    let vault = Vault::load(Config::from_file(config)?)?;

    let url = vault.secret("DATABASE_URL")?;
    assert!(url.value.expose_secret().starts_with(b"postgresql://"));

    // Keep this text in a column.
    let context = |tenant| Context::new("user-secret").tenant(tenant).name("prod_db");
    let token = vault.seal(&context("42"), b"correct horse")?.to_string();
    assert_eq!(vault.open(&context("42"), &token.parse()?)?.expose_secret(), b"correct horse");

    // For logs, and for who asked over the network.
    let refused = vault.open(&context("43"), &token.parse()?).map_err(|error| (error.kind(), error.public_code()));
    assert_eq!(refused.err(), Some((Kind::ContextMismatch, Kind::OpenFailed)));

    // For a health check: why the last look at the keys failed, if it did.
    assert!(vault.following().failure.is_none());
    Ok(())
}
