//! `seal`, `open` and `inspect`: filters from standard input to standard output.

use serde_json::json;
use vault_core::legacy::{self, LegacyKey};
use vault_core::{
    AnyKeyring, Context, Error, Format, HARD_LIMIT, KeyId, Keyring, MasterKey, Result, Sealer, SecretBytes, SecretKind,
    TextKey, Token, WrappedKey,
};

use crate::args::{ContextArgs, Global, InspectArgs, Keys, Lines, OpenArgs, SealArgs};
use crate::failure::{Failure, Outcome};
use crate::input;
use crate::output::Output;

/// `vault seal`.
pub(crate) fn seal(args: &SealArgs, global: &Global, output: &mut Output) -> Outcome {
    if args.keys.format == Format::Plaintext {
        return Err(Failure::usage("nothing is sealed as plaintext"));
    }
    if args.keys.key_file.len() > 1 && args.seal_with.is_none() {
        return Err(Failure::usage("several key files are given: say which seals with --seal-with KID"));
    }
    let context = context(&args.context, args.keys.format)?;
    let opener = Opener::load(&args.keys, args.seal_with, global)?;
    each_value(&args.lines, output, |secret, output| {
        check_secret(args, secret)?;
        let (token, kid) = match &opener {
            Opener::Tokens(sealers) => {
                let sealer = sealers.first().ok_or_else(no_key)?.clone();
                let sealer = if args.padded { sealer.with_padding() } else { sealer };
                let token = sealer.seal(&context, secret)?;
                (token.to_string(), token.kid())
            }
            Opener::Legacy(format, keys) => {
                let key = keys.first().ok_or_else(no_key)?;
                (legacy::seal(*format, key, context.tenant_value(), secret)?, key.kid())
            }
        };
        output.result(&token, json!({ "token": token, "kid": kid.as_str() }))
    })
}

/// What is sealed is text unless the caller says otherwise, and not empty by accident.
fn check_secret(args: &SealArgs, secret: &[u8]) -> Result<(), Failure> {
    if secret.is_empty() && !args.allow_empty {
        let failure = Failure::from(Error::Malformed { what: "standard input: it is empty" });
        return Err(failure.with_hint("--allow-empty seals it all the same"));
    }
    if !args.lines.raw && (secret.contains(&0) || core::str::from_utf8(secret).is_err()) {
        let failure = Failure::from(Error::Malformed { what: "standard input: it is not UTF-8 text without NUL" });
        return Err(failure.with_hint("--raw takes it byte for byte"));
    }
    Ok(())
}

/// `vault open`.
pub(crate) fn open(args: &OpenArgs, global: &Global, output: &mut Output) -> Outcome {
    if args.keys.format == Format::Plaintext {
        return Err(Failure::usage("plaintext needs no opening"));
    }
    if global.json {
        return Err(
            Failure::usage("a secret is written as its exact bytes, never as JSON").with_hint("leave --json out")
        );
    }
    let context = context(&args.context, args.keys.format)?;
    let opener = Opener::load(&args.keys, None, global)?;
    if !args.keys.format.authenticated() {
        output
            .note(&format!("warning: {} is not authenticated; a wrong key can give a wrong secret", args.keys.format));
    }
    each_value(&args.lines, output, |value, output| {
        let secret = opener.open(&context, value)?;
        if !args.lines.lines {
            return output.bytes(secret.expose_secret());
        }
        if secret.expose_secret().contains(&b'\n') {
            return Err(Failure::usage("the secret has a line break in it; open it without --lines"));
        }
        output.bytes(secret.expose_secret())?;
        output.bytes(b"\n")
    })
}

/// `vault inspect`.
pub(crate) fn inspect(args: &InspectArgs, output: &mut Output) -> Outcome {
    each_value(&args.lines, output, describe)
}

fn describe(value: &[u8], output: &mut Output) -> Result<(), Failure> {
    let text = core::str::from_utf8(value).unwrap_or_default();
    if text.starts_with("vk") {
        let wrapped: WrappedKey = text.parse()?;
        let line = format!("vk1: key {} under key {}", wrapped.inner(), wrapped.kid());
        return output.result(
            &line,
            json!({ "token": text, "format": "vk1", "kid": wrapped.kid().as_str(), "wrapped": wrapped.inner().as_str() }),
        );
    }
    let candidates = legacy::identify(value);
    if candidates.is_empty() || candidates == [Format::Vs1] {
        let token = Token::parse(text, HARD_LIMIT)?;
        let seen = token.inspect();
        let line = format!(
            "vs1: key {}, sealed {}, {} bytes{}",
            seen.kid,
            seen.sealed_at,
            seen.payload,
            if seen.padded { " with padding" } else { "" }
        );
        return output.result(
            &line,
            json!({ "token": text, "format": "vs1", "kid": seen.kid.as_str(), "sealed_at": seen.sealed_at.to_string(), "payload": seen.payload, "padded": seen.padded }),
        );
    }
    let names: Vec<_> = candidates.iter().map(|format| format.as_str()).collect();
    let line = match candidates.as_slice() {
        [only] if !only.authenticated() => format!("{only} (unauthenticated)"),
        [only] => match legacy::owner(value) {
            Some(uid) => format!("{only}: user {uid}"),
            None => only.to_string(),
        },
        _ => format!("fernet (one of {})", names.join(", ")),
    };
    output.result(&line, json!({ "format": names.first(), "candidates": names }))
}

/// Keys that open, the one that seals first.
enum Opener {
    Legacy(Format, Vec<LegacyKey>),
    Tokens(Vec<Sealer>),
}

impl Opener {
    fn load(keys: &Keys, seal_with: Option<KeyId>, global: &Global) -> Result<Self, Failure> {
        if keys.key_file.is_empty() {
            let vault = input::vault(global)?;
            return match (vault.keyring(&keys.keyring)?, keys.format) {
                (AnyKeyring::Kek(keyring), Format::Vs1) => {
                    Ok(Self::Tokens(vec![Sealer::new(keyring.clone()).with_limit(HARD_LIMIT)]))
                }
                (AnyKeyring::Text(_), Format::Vs1) => {
                    Err(Failure::usage(format!("keyring {} holds key texts, which seal no tokens", keys.keyring)))
                }
                (_, format) => Err(Failure::usage(format!("{format} needs --key-file with the key text"))),
            };
        }
        let mut contents = Vec::new();
        for path in &keys.key_file {
            contents.push((path.display().to_string(), input::key_file(path)?));
        }
        if keys.format.is_legacy() {
            let mut loaded = Vec::new();
            for (place, content) in &contents {
                let key = TextKey::parse(content.expose_secret(), keys.format.trim())
                    .map_err(|reason| Error::KeyMalformed { place: place.clone(), reason })?;
                loaded.push(LegacyKey::new(key));
            }
            put_first(&mut loaded, seal_with, LegacyKey::kid)?;
            return Ok(Self::Legacy(keys.format, loaded));
        }
        let mut loaded = Vec::new();
        for (place, content) in &contents {
            let key = MasterKey::parse_for_opening(content.expose_secret())
                .map_err(|reason| Error::KeyMalformed { place: place.clone(), reason })?;
            loaded.push(Sealer::new(Keyring::single(key)).with_limit(HARD_LIMIT));
        }
        put_first(&mut loaded, seal_with, |sealer| sealer.keyring().primary_kid())?;
        Ok(Self::Tokens(loaded))
    }

    fn open(&self, context: &Context, value: &[u8]) -> Result<SecretBytes> {
        let (format, keys) = match self {
            Self::Tokens(sealers) => {
                let text =
                    core::str::from_utf8(value).map_err(|_| Error::Malformed { what: "token: it is not text" })?;
                let token = Token::parse(text, HARD_LIMIT)?;
                let sealer = sealers.iter().find(|sealer| sealer.keyring().opening(token.kid()).is_ok());
                return sealer.or(sealers.first()).ok_or_else(no_key)?.open(context, &token);
            }
            Self::Legacy(format, keys) => (*format, keys),
        };
        let mut failure = no_key();
        let mut found = None;
        for key in keys {
            match legacy::open(format, key, context.tenant_value(), value) {
                Ok(secret) if format.authenticated() => return Ok(secret),
                Ok(_) if found.is_some() => {
                    return Err(Error::Corrupt { what: "value, which gives a plausible secret under two keys," });
                }
                Ok(secret) => found = Some(secret),
                Err(error) => failure = error,
            }
        }
        found.ok_or(failure)
    }
}

fn put_first<T>(keys: &mut [T], wanted: Option<KeyId>, kid: impl Fn(&T) -> KeyId) -> Result<(), Failure> {
    if let Some(wanted) = wanted {
        let at = keys.iter().position(|key| kid(key) == wanted).ok_or(Error::UnknownKey { kid: wanted })?;
        keys.swap(0, at);
    }
    Ok(())
}

/// Applies `work` to all of standard input, or to each of its lines.
fn each_value(lines: &Lines, output: &mut Output, work: impl Fn(&[u8], &mut Output) -> Result<(), Failure>) -> Outcome {
    if lines.lines {
        input::each_line(|number, line| {
            work(line, output).map_err(|failure| at_line(number, failure))?;
            Ok(output.flow())
        })?;
    } else {
        let content = input::read_all()?;
        work(if lines.raw { &content } else { SecretKind::Text.secret_in(&content) }, output)?;
    }
    Ok(0)
}

fn context(args: &ContextArgs, format: Format) -> Result<Context, Failure> {
    let given = args.tenant.is_some() || args.name.is_some() || args.purpose.is_some() || !args.extra.is_empty();
    if !given && !args.no_context && format == Format::Vs1 {
        return Err(Failure::usage("a token is bound to a context: give --tenant, --name, --purpose or --extra")
            .with_hint("--no-context binds it to nothing"));
    }
    let mut context = Context::none();
    if let Some(tenant) = &args.tenant {
        context = context.tenant(tenant);
    }
    if let Some(name) = &args.name {
        context = context.name(name);
    }
    if let Some(purpose) = &args.purpose {
        context = context.purpose(purpose);
    }
    for pair in &args.extra {
        let (key, value) = pair.split_once('=').ok_or_else(|| Failure::usage("--extra takes KEY=VALUE"))?;
        context = context.extra(key, value);
    }
    Ok(context)
}

fn at_line(number: usize, mut failure: Failure) -> Failure {
    failure.message = format!("line {number}: {}", failure.message);
    failure
}

fn no_key() -> Error {
    Error::KeyMissing { place: "give one with --key-file".to_owned() }
}
