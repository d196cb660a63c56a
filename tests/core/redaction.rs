//! A marker key and a marker secret go through every Debug and every error, and are never seen.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use vault_core::legacy::{self, LegacyKey};
use vault_core::{Context, Format, Keyring, Manifest, MasterKey, Sealer, SecretBytes, TextKey, Token, Trim};

const SECRET: &str = "MARKER-secret-that-must-not-be-seen-anywhere";

/// Every way that the marker could be written: as it is, in hex, and in base64 at each offset.
fn forms(marker: &[u8]) -> Vec<String> {
    let hex: String = marker.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![String::from_utf8_lossy(marker).into_owned(), hex.to_uppercase(), hex];
    for skip in 0..3 {
        let part = &marker[skip..marker.len() - (marker.len() - skip) % 3];
        forms.extend([STANDARD_NO_PAD.encode(part), URL_SAFE_NO_PAD.encode(part)]);
    }
    forms.push(format!("{marker:?}").trim_matches(['[', ']']).to_owned());
    forms
}

fn assert_clean(told: &str, markers: &[&[u8]]) {
    for marker in markers {
        for form in forms(marker) {
            assert!(!told.contains(&form), "{told}");
        }
    }
}

#[test]
fn nothing_that_is_printed_shows_a_key_or_a_secret() {
    let key = MasterKey::generate().unwrap();
    let key_text = key.text().expose_secret().to_vec();
    let mut told = format!("{key:?}");
    let sealer = Sealer::new(Keyring::single(key));
    let context = Context::new("p").tenant("42");
    let token = sealer.seal(&context, SECRET.as_bytes()).unwrap();
    let opened = sealer.open(&context, &token).unwrap();
    told += &format!(
        "{sealer:?} {token:?} {opened:?} {:?} {:?}",
        sealer.keyring(),
        SecretBytes::copy_of(SECRET.as_bytes())
    );

    let text = token.to_string();
    let stranger = Sealer::new(Keyring::single(MasterKey::generate().unwrap()));
    let mut errors = vec![
        sealer.open(&Context::none(), &token).unwrap_err(),
        stranger.open(&context, &token).unwrap_err(),
        SECRET.parse::<Token>().unwrap_err(),
        format!("{text}{SECRET}").parse::<Token>().unwrap_err(),
        format!("{text}.{SECRET}").parse::<Token>().unwrap_err(),
        sealer.seal(&Context::none().name(SECRET.repeat(200)), SECRET.as_bytes()).unwrap_err(),
        Manifest::parse(SECRET, std::path::Path::new("vault.toml"), None).unwrap_err(),
        Manifest::parse(&format!("version = \"{SECRET}\""), std::path::Path::new("vault.toml"), None).unwrap_err(),
        Manifest::parse(&format!("version = 1\n[vault]\napp = {SECRET}"), std::path::Path::new("vault.toml"), None)
            .unwrap_err(),
    ];
    let legacy_key = LegacyKey::new(TextKey::parse(&key_text, Trim::Python).unwrap());
    told += &format!("{legacy_key:?}");
    let other = LegacyKey::new(TextKey::parse(SECRET.as_bytes(), Trim::Python).unwrap());
    told += &format!("{other:?}");
    for format in Format::ALL {
        errors.extend(legacy::open(format, &other, None, SECRET.as_bytes()).err());
        errors.extend(legacy::open(format, &legacy_key, Some(SECRET), SECRET.as_bytes()).err());
        errors.extend(legacy::seal(format, &legacy_key, Some(SECRET), SECRET.as_bytes()).err());
        if let Ok(value) =
            legacy::seal(format, &legacy_key, Some("1"), br#"{"a":"MARKER-secret-that-must-not-be-seen-anywhere"}"#)
        {
            errors.extend(legacy::open(format, &other, Some("1"), value.as_bytes()).err());
        }
    }
    assert!(errors.len() > 40, "{} errors", errors.len());
    for error in errors {
        told += &format!("{error} {error:?} {:?} {}\n", error.hint(), error.public_code());
        assert!(!error.to_string().ends_with('.') && !error.to_string().contains('\n'), "{error}");
    }
    for content in [SECRET.as_bytes(), format!("KEY={SECRET}").as_bytes(), format!("\"{SECRET}\"").as_bytes()] {
        let error = MasterKey::parse(content).unwrap_err();
        told += &format!("{error} {error:?}");
    }
    assert_clean(&told, &[SECRET.as_bytes(), &key_text, &key_text[..40]]);
}
