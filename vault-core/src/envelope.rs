//! The only composition of keys, primitives and token (docs/FORMAT.md, "Seal", "Open", "Rewrap").

use zeroize::Zeroize;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::key::{KeyId, MasterKey};
use crate::primitives::{self, Key32, Label, Prk, TAG};
use crate::secret::SecretBytes;
use crate::time::Timestamp;
use crate::token::{PAD_BLOCK, PADDED, PREAMBLE, SUITE, Token, WrappedKey};

/// Seals `plaintext` under a fresh data key, now.
pub(crate) fn seal(key: &MasterKey, context_hash: &[u8; 32], plaintext: &[u8], padded: bool) -> Result<Token> {
    let sealed_at =
        u32::try_from(Timestamp::now().0).map_err(|_| Error::CannotSeal { why: "the clock is past 2106" })?;
    seal_with(key, context_hash, plaintext, padded, sealed_at, &*primitives::random()?)
}

/// [`seal`] at a given time with given randomness.
#[inline(never)]
fn seal_with(
    key: &MasterKey,
    context_hash: &[u8; 32],
    plaintext: &[u8],
    padded: bool,
    sealed_at: u32,
    random: &[u8; 32],
) -> Result<Token> {
    let length = u64::try_from(plaintext.len()).unwrap_or(u64::MAX).to_be_bytes();
    let dek = key.hedge().mac(&[random, context_hash, &length, plaintext]);

    let payload = if padded { (plaintext.len() / PAD_BLOCK + 1) * PAD_BLOCK } else { plaintext.len() };
    let mut body = Vec::with_capacity(PREAMBLE + payload + TAG);
    body.extend_from_slice(&[SUITE, if padded { PADDED } else { 0 }]);
    body.extend_from_slice(&sealed_at.to_be_bytes());
    let prk = Prk::from_uniform(&dek);
    let (commitment, payload_key) = (commitment(&prk, &body, context_hash), payload_key(&prk, &body));
    body.extend_from_slice(&*commitment);
    let aad = payload_aad(&body);
    body.extend_from_slice(plaintext);
    if padded {
        body.push(0x80);
        body.resize(PREAMBLE + payload, 0);
    }
    let tag = primitives::gcm_seal(&payload_key, &aad, body.get_mut(PREAMBLE..).unwrap_or_default())
        .inspect_err(|_| body.zeroize())?;
    body.extend_from_slice(&tag);
    let wrapped = key.wrap().wrap(key.token_label(), &*commitment, &dek);
    Ok(Token::from_parts(key.kid(), wrapped, body))
}

/// The plaintext, if the token is authentic under `key` and belongs to the context of that hash.
#[inline(never)]
pub(crate) fn open(key: &MasterKey, context_hash: &[u8; 32], token: &Token) -> Result<SecretBytes> {
    let Authentic { prk, plaintext, .. } = authenticate(key, token)?;
    if !primitives::equal(&*commitment(&prk, token.header(), context_hash), token.commitment()) {
        return Err(Error::ContextMismatch);
    }
    Ok(plaintext)
}

/// Whether every byte of the token is authentic under `key`. The context is not checked.
pub(crate) fn verify(key: &MasterKey, token: &Token) -> Result<()> {
    authenticate(key, token).map(drop)
}

/// The same data key and payload under another master key: the fourth segment stays as it is.
///
/// Needs no context and no randomness; equal inputs give equal tokens.
#[inline(never)]
pub(crate) fn rewrap(from: &MasterKey, to: &MasterKey, token: &Token) -> Result<Token> {
    let Authentic { dek, .. } = authenticate(from, token)?;
    let wrapped = to.wrap().wrap(to.token_label(), token.commitment(), &dek);
    Ok(token.with_wrap(to.kid(), wrapped))
}

/// Wraps a tenant key for its tenant, or with no tenant a master key for export.
pub(crate) fn wrap_key(wrapping: &MasterKey, key: &MasterKey, tenant: Option<&str>) -> Result<WrappedKey> {
    if wrapping.kid().letter() != 'k' {
        return Err(Error::CannotSeal { why: "only a master key wraps other keys" });
    }
    let created = u32::try_from(Timestamp::now().0).map_err(|_| Error::CannotSeal { why: "the clock is past 2106" })?;
    wrap_key_at(wrapping, key, tenant, created)
}

fn wrap_key_at(wrapping: &MasterKey, key: &MasterKey, tenant: Option<&str>, created: u32) -> Result<WrappedKey> {
    let body = WrappedKey::body_of(created, key.kid(), &key_context(key.kid(), tenant)?.hash()?);
    let wrapped = wrapping.wrap().wrap(&key_label(wrapping), &body, key.bytes());
    Ok(WrappedKey::from_parts(wrapping.kid(), wrapped, body, key.kid()))
}

/// The key inside, if it is authentic, is the key that it says, and belongs to `tenant`.
pub(crate) fn unwrap_key(wrapping: &MasterKey, wrapped: &WrappedKey, tenant: Option<&str>) -> Result<MasterKey> {
    let context_hash = key_context(wrapped.inner(), tenant)?.hash()?;
    let key = unwrap_any(wrapping, wrapped)?;
    if !primitives::equal(&context_hash, wrapped.context_hash()) {
        return Err(Error::ContextMismatch);
    }
    Ok(key)
}

/// The same wrapped key under another wrapping key.
pub(crate) fn rewrap_key(from: &MasterKey, to: &MasterKey, wrapped: &WrappedKey) -> Result<WrappedKey> {
    let key = unwrap_any(from, wrapped)?;
    let again = to.wrap().wrap(&key_label(to), wrapped.body(), key.bytes());
    Ok(wrapped.with_wrap(to.kid(), again))
}

fn unwrap_any(wrapping: &MasterKey, wrapped: &WrappedKey) -> Result<MasterKey> {
    let bytes = wrapping
        .wrap()
        .unwrap(&key_label(wrapping), wrapped.body(), wrapped.wrapped())
        .ok_or(Error::Corrupt { what: "wrapped key" })?;
    let key = match wrapped.inner().letter() {
        't' => MasterKey::tenant(&bytes),
        _ => MasterKey::from_raw(&bytes),
    };
    if key.kid() == wrapped.inner() { Ok(key) } else { Err(Error::ContextMismatch) }
}

/// What binds a wrapped key to the id of its wrapping key.
fn key_label(wrapping: &MasterKey) -> Label {
    wrapping.wrap().label(&wrapping.kid().wrap_label(*b"vk1."))
}

fn key_context(inner: KeyId, tenant: Option<&str>) -> Result<Context> {
    match (inner.letter(), tenant) {
        ('t', Some(tenant)) => Ok(Context::new("tenant-key").tenant(tenant)),
        ('k', None) => Ok(Context::new("kek-export")),
        _ => Err(Error::ContextMismatch),
    }
}

/// What an authentic token holds.
struct Authentic {
    dek: Key32,
    prk: Prk,
    plaintext: SecretBytes,
}

fn authenticate(key: &MasterKey, token: &Token) -> Result<Authentic> {
    let corrupt = || Error::Corrupt { what: "token" };
    let dek = key.wrap().unwrap(key.token_label(), token.commitment(), token.wrapped()).ok_or_else(corrupt)?;
    let prk = Prk::from_uniform(&dek);
    let payload_key = payload_key(&prk, token.header());
    let (ciphertext, tag) = token.payload();
    let mut payload = SecretBytes::copy_of(ciphertext);
    primitives::gcm_open(&payload_key, &payload_aad(token.preamble()), payload.expose_mut(), tag)
        .ok_or_else(corrupt)?;
    if token.padded() {
        payload = SecretBytes::copy_of(unpadded(payload.expose_secret()).ok_or_else(corrupt)?);
    }
    Ok(Authentic { dek, prk, plaintext: payload })
}

fn unpadded(payload: &[u8]) -> Option<&[u8]> {
    let end = payload.iter().rposition(|byte| *byte != 0)?;
    let (plaintext, padding) = payload.split_at_checked(end)?;
    (padding.first() == Some(&0x80) && padding.len() <= PAD_BLOCK).then_some(plaintext)
}

/// What binds a token to its context and data key.
fn commitment(dek: &Prk, header: &[u8], context_hash: &[u8; 32]) -> Key32 {
    dek.expand(&[b"vs1/c", header, context_hash])
}

/// The key of the one payload of a data key.
fn payload_key(dek: &Prk, header: &[u8]) -> Key32 {
    dek.expand(&[b"vs1/p", header])
}

/// `"vs1" || header || commitment`.
fn payload_aad(preamble: &[u8]) -> [u8; 3 + PREAMBLE] {
    let mut aad = [0; 3 + PREAMBLE];
    for (place, byte) in aad.iter_mut().zip(b"vs1".iter().chain(preamble)) {
        *place = *byte;
    }
    aad
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn hex(text: &Value) -> Vec<u8> {
        let text = text.as_str().unwrap();
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    fn key(text: &Value) -> MasterKey {
        MasterKey::from_raw(&hex(text).try_into().unwrap())
    }

    fn context(value: &Value) -> Context {
        let mut context = Context::none();
        for (field, value) in value.as_object().unwrap() {
            context = match (field.as_str(), value.as_str()) {
                ("tenant", Some(v)) => context.tenant(v),
                ("name", Some(v)) => context.name(v),
                ("purpose", Some(v)) => context.purpose(v),
                ("extra", None) => value
                    .as_object()
                    .unwrap()
                    .iter()
                    .fold(context, |context, (k, v)| context.extra(k, v.as_str().unwrap())),
                other => panic!("unknown field {other:?}"),
            };
        }
        context
    }

    fn vectors(name: &str) -> Value {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/vs1").join(name);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn every_intermediate_value_is_the_known_one() {
        let file = vectors("known_answers.json");
        let cases = file["tests"].as_array().unwrap();
        assert!(cases.len() >= 44, "{} cases", cases.len());
        for case in cases {
            let id = &case["id"];
            let key = key(&case["kek"]);
            let context = context(&case["context"]);
            let random: [u8; 32] = hex(&case["rng32"]).try_into().unwrap();
            let plaintext = hex(&case["plaintext"]);
            let padded = case["flags"] == 1;
            let sealed_at = u32::try_from(case["sealed_at"].as_u64().unwrap()).unwrap();

            assert_eq!(key.kid().as_str(), case["kid"], "{id}");
            assert_eq!(context.encode().unwrap().bytes(), hex(&case["context_encoding"]), "{id}");
            let hash = context.hash().unwrap();
            assert_eq!(hash.to_vec(), hex(&case["context_hash"]), "{id}");
            let dek =
                key.hedge().mac(&[&random, &hash, &u64::try_from(plaintext.len()).unwrap().to_be_bytes(), &plaintext]);
            assert_eq!(dek.to_vec(), hex(&case["dek"]), "{id}");

            let token = seal_with(&key, &hash, &plaintext, padded, sealed_at, &random).unwrap();
            assert_eq!(token.to_string(), case["token"], "{id}");
            let prk = Prk::from_uniform(&dek);
            assert_eq!(commitment(&prk, token.header(), &hash).to_vec(), hex(&case["commitment"]), "{id}");
            assert_eq!(payload_key(&prk, token.header()).to_vec(), hex(&case["payload_key"]), "{id}");
            assert_eq!(open(&key, &hash, &token).unwrap().expose_secret(), plaintext, "{id}");

            let other = self::key(&case["rewrap_kek"]);
            let moved = rewrap(&key, &other, &token).unwrap();
            assert_eq!(moved.to_string(), case["rewrapped"], "{id}");
            assert_eq!(rewrap(&other, &key, &moved).unwrap(), token, "{id}");
            verify(&other, &moved).unwrap();
        }
    }

    #[test]
    fn a_wrapped_key_is_the_known_one() {
        let file = vectors("wrapped_key.json");
        let master = key(&file["master"]);
        let tenant_key = MasterKey::tenant(&hex(&file["tenant_key"]).try_into().unwrap());
        assert_eq!(tenant_key.kid().as_str(), file["tenant_kid"]);
        let text = file["wrapped"].as_str().unwrap();
        assert_eq!(text.len(), 161);
        let wrapped: WrappedKey = text.parse().unwrap();
        let created = u32::from_be_bytes(wrapped.body()[2..6].try_into().unwrap());
        assert_eq!(wrap_key_at(&master, &tenant_key, Some("42"), created).unwrap(), wrapped);
        assert_eq!(wrapped.to_string(), text);

        let unwrapped = unwrap_key(&master, &wrapped, Some("42")).unwrap();
        assert_eq!(unwrapped.bytes(), tenant_key.bytes());
        assert!(matches!(unwrap_key(&master, &wrapped, Some("43")), Err(Error::ContextMismatch)));
        let sealed = &file["sealed_with_tenant_key"];
        let token = sealed["token"].as_str().unwrap().parse().unwrap();
        let opened = open(&unwrapped, &context(&sealed["context"]).hash().unwrap(), &token).unwrap();
        assert_eq!(opened.expose_secret(), hex(&sealed["plaintext"]));

        let other = MasterKey::generate().unwrap();
        let moved = rewrap_key(&master, &other, &wrapped).unwrap();
        assert_eq!(moved.body(), wrapped.body());
        assert_eq!(rewrap_key(&other, &master, &moved).unwrap(), wrapped);
    }

    /// The body is authentic and says another id than that of the key inside.
    #[test]
    fn the_id_of_a_wrapped_key_is_computed_again() {
        let [wrapping, key, other] = [(); 3].map(|()| MasterKey::generate().unwrap());
        let body = WrappedKey::body_of(1, other.kid(), &Context::new("kek-export").hash().unwrap());
        let wrap = wrapping.wrap().wrap(&key_label(&wrapping), &body, key.bytes());
        let wrapped = WrappedKey::from_parts(wrapping.kid(), wrap, body, other.kid());
        assert!(matches!(unwrap_key(&wrapping, &wrapped, None), Err(Error::ContextMismatch)));
        assert!(matches!(rewrap_key(&wrapping, &other, &wrapped), Err(Error::ContextMismatch)));
        let good = wrap_key_at(&wrapping, &key, None, 1).unwrap();
        assert_eq!(unwrap_key(&wrapping, &good, None).unwrap().bytes(), key.bytes());
    }

    /// What pads is 80 00*, one block of it at most, as only a holder of the key could make it otherwise.
    #[test]
    fn padding_is_one_mark_and_zeros_of_one_block_at_most() {
        for (payload, plaintext) in [
            ([&b"secret\x80"[..], &[0; 25]].concat(), Some(&b"secret"[..])),
            ([&[b's'; 31][..], b"\x80"].concat(), Some(&[b's'; 31][..])),
            ([&[0x80][..], &[0; 31]].concat(), Some(b"")),
            ([&[b's'; 32][..], &[0x80], &[0; 31]].concat(), Some(&[b's'; 32][..])),
            // Not marked, or marked with another byte.
            (vec![0; 32], None),
            (vec![b's'; 32], None),
            ([&b"secret\x81"[..], &[0; 25]].concat(), None),
            // The mark and more than 31 zeros.
            ([&b"secret\x80"[..], &[0; 57]].concat(), None),
            ([&[0x80][..], &[0; 63]].concat(), None),
        ] {
            assert_eq!(unpadded(&payload), plaintext, "{payload:02x?}");
            let key = MasterKey::generate().unwrap();
            let token = sealed_payload(&key, &payload);
            match (open(&key, &Context::none().hash().unwrap(), &token), plaintext) {
                (Ok(opened), Some(plaintext)) => assert_eq!(opened.expose_secret(), plaintext),
                (Err(Error::Corrupt { .. }), None) => {}
                (other, _) => panic!("{payload:02x?}: {other:?}"),
            }
        }
    }

    /// An authentic token whose flags say that it is padded, of a payload as it is.
    fn sealed_payload(key: &MasterKey, payload: &[u8]) -> Token {
        let hash = Context::none().hash().unwrap();
        let dek = key.hedge().mac(&[&[7; 32], &hash, payload]);
        let prk = Prk::from_uniform(&dek);
        let mut body = vec![SUITE, PADDED, 0, 0, 0, 1];
        let payload_key = payload_key(&prk, &body);
        let commitment = commitment(&prk, &body, &hash);
        body.extend_from_slice(&*commitment);
        let aad = payload_aad(&body);
        body.extend_from_slice(payload);
        let tag = primitives::gcm_seal(&payload_key, &aad, &mut body[PREAMBLE..]).unwrap();
        body.extend_from_slice(&tag);
        Token::from_parts(key.kid(), key.wrap().wrap(key.token_label(), &*commitment, &dek), body)
    }

    /// With randomness that repeats, as after a fork or a restored snapshot, every other plaintext
    /// or context still has a data key of its own, and equal inputs have an equal one.
    #[test]
    fn repeated_randomness_repeats_no_data_key() {
        let key = MasterKey::generate().unwrap();
        let random = [7; 32];
        let mut bodies = std::collections::BTreeSet::new();
        for context in [Context::none(), Context::new("p"), Context::new("p").tenant("1"), Context::new("p").name("1")]
        {
            for length in 0..100 {
                let token = seal_with(&key, &context.hash().unwrap(), &vec![0; length], false, 1, &random).unwrap();
                assert!(bodies.insert((*token.wrapped(), token.preamble().to_vec())), "a data key was used twice");
                let again = seal_with(&key, &context.hash().unwrap(), &vec![0; length], false, 1, &random).unwrap();
                assert_eq!(token, again);
            }
        }
        let wraps: std::collections::BTreeSet<_> = bodies.iter().map(|(wrap, _)| wrap).collect();
        assert_eq!(wraps.len(), bodies.len());
    }

    /// The two wraps of the attack share no key stream, although the commitment was copied.
    #[test]
    fn a_copied_commitment_gives_no_key_stream() {
        let file = &vectors("negatives.json")["rewrap_copied_commitment"];
        let (old, new) = (key(&file["old_kek"]), key(&file["new_kek"]));
        let victim: Token = file["victim"].as_str().unwrap().parse().unwrap();
        let planted: Token = file["planted"].as_str().unwrap().parse().unwrap();
        assert_eq!(planted.commitment(), victim.commitment());
        let moved = rewrap(&old, &new, &planted).unwrap();
        assert_eq!(moved.to_string(), file["rewrapped"]);
        let own_dek = hex(&file["own_dek"]);
        let guess: Vec<u8> = (16..48).map(|i| victim.wrapped()[i] ^ moved.wrapped()[i] ^ own_dek[i - 16]).collect();
        let context = Context::new("user-secret").tenant("42").name("prod_db");
        let Authentic { dek, .. } = authenticate(&new, &victim).unwrap();
        assert_ne!(guess, dek.to_vec());
        assert!(matches!(open(&new, &context.hash().unwrap(), &moved), Err(Error::ContextMismatch)));
    }
}
