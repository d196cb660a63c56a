//! What holds for every secret, every context and every text.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use vault_core::{
    Context, Error, HARD_LIMIT, KeyId, Keyring, Kind, MasterKey, Sealer, TextKey, Timestamp, Token, Trim, WrappedKey,
};

use crate::vectors::sealer_under;

fn sealer() -> Sealer {
    Sealer::new(Keyring::single(MasterKey::generate().unwrap()))
}

fn contexts() -> impl Strategy<Value = Context> {
    let field = || proptest::option::of(".{0,40}");
    (field(), field(), field(), btree_map(".{1,10}", ".{0,20}", 0..5)).prop_map(|(tenant, name, purpose, extra)| {
        let mut context = Context::none();
        if let Some(tenant) = tenant {
            context = context.tenant(tenant);
        }
        if let Some(name) = name {
            context = context.name(name);
        }
        if let Some(purpose) = purpose {
            context = context.purpose(purpose);
        }
        extra.into_iter().fold(context, |context, (key, value)| context.extra(key, value))
    })
}

proptest! {
    #[test]
    fn what_is_sealed_opens_for_its_context_alone(secret in vec(any::<u8>(), 0..2_000), own in contexts(), other in contexts(), padded: bool) {
        let sealer = if padded { sealer().with_padding() } else { sealer() };
        let token = sealer.seal(&own, &secret).unwrap();
        let read: Token = token.to_string().parse().unwrap();
        prop_assert_eq!(&read, &token);
        let opened = sealer.open(&own, &read).unwrap();
        prop_assert_eq!(opened.expose_secret(), &secret[..]);
        prop_assert_eq!(sealer.open(&other, &token).is_ok(), own == other);
        if padded {
            prop_assert_eq!(token.inspect().payload % 32, 0);
        }
    }

    #[test]
    fn a_rewrap_there_and_back_is_the_same_token(secret in vec(any::<u8>(), 0..200), context in contexts()) {
        let (a, b) = (MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
        let copy = |key: &MasterKey| MasterKey::parse(key.text().expose_secret()).unwrap();
        let there = sealer_under([copy(&a), copy(&b)], 1);
        let back = sealer_under([a, b], 0);
        let token = back.seal(&context, &secret).unwrap();
        let moved = there.rewrap(&token).unwrap();
        prop_assert_ne!(moved.kid(), token.kid());
        prop_assert_eq!(&moved.to_string()[87..], &token.to_string()[87..], "the payload is untouched");
        prop_assert_eq!(there.rewrap(&token).unwrap(), moved.clone(), "equal inputs, equal tokens");
        prop_assert_eq!(back.rewrap(&moved).unwrap(), token);
        let opened = there.open(&context, &moved).unwrap();
        prop_assert_eq!(opened.expose_secret(), &secret[..]);
    }

    #[test]
    fn no_input_makes_a_parser_panic(bytes: Vec<u8>, near in "(vs1|vk1|vs2)?\\.?[a-z2-7]{0,18}\\.?[A-Za-z0-9_-]{0,70}\\.?[A-Za-z0-9_-]{0,90}") {
        for text in [near, String::from_utf8_lossy(&bytes).into_owned()] {
            if let Ok(token) = text.parse::<Token>() {
                prop_assert_eq!(token.to_string(), text.as_str(), "one token has one text");
            }
            let _ = (text.parse::<WrappedKey>(), text.parse::<KeyId>(), Timestamp::parse(&text));
            let _ = MasterKey::parse_for_opening(text.as_bytes());
        }
        let _ = MasterKey::parse_for_opening(&bytes);
    }
}

/// Of a thousand pairs of tokens of one secret, one context and one time, each character behind the time
/// of sealing is equal in about one pair of 64, as that of two strangers is.
#[test]
fn nothing_of_two_tokens_tells_that_their_secrets_are_equal() {
    let sealer = Sealer::new(Keyring::single(MasterKey::generate().unwrap()));
    let context = Context::new("user-secret").tenant("42").name("prod_db");
    let pairs: Vec<_> =
        (0..1_000).map(|_| [(); 2].map(|()| sealer.seal(&context, b"correct horses!").unwrap().text())).collect();
    let length = pairs[0][0].len();
    for at in (22..86).chain(87 + 8..length) {
        let equal = pairs.iter().filter(|[a, b]| a.as_bytes()[at] == b.as_bytes()[at]).count();
        assert!(equal < 100, "character {at} is equal in {equal} of 1000 pairs");
    }
}

#[test]
fn sizes_up_to_the_limit_are_sealed_and_one_byte_more_is_refused() {
    let context = Context::new("p");
    for limit in [1 << 20, HARD_LIMIT] {
        let sealer = sealer().with_limit(limit);
        let secret = vec![0x5a; limit + 1];
        let token = sealer.seal(&context, &secret[..limit]).unwrap();
        let read = Token::parse(&token.to_string(), limit).unwrap();
        assert_eq!(sealer.open(&context, &read).unwrap().expose_secret(), &secret[..limit]);
        let padded = sealer.clone().with_padding().seal(&context, &secret[..limit]).unwrap();
        let read = Token::parse(&padded.to_string(), limit).unwrap();
        assert_eq!(sealer.open(&context, &read).unwrap().len(), limit);
        assert!(matches!(sealer.seal(&context, &secret), Err(Error::TooLarge { .. })));
    }
    let large = sealer().with_limit(usize::MAX);
    assert!(
        matches!(large.seal(&context, &vec![0; HARD_LIMIT + 1]), Err(Error::TooLarge { .. })),
        "no limit is above the hard one"
    );
    let own = MasterKey::generate().unwrap();
    let copy = MasterKey::parse(own.text().expose_secret()).unwrap();
    let token = Sealer::new(Keyring::single(own)).with_limit(HARD_LIMIT).seal(&context, &vec![0; 2 << 20]).unwrap();
    assert!(matches!(token.to_string().parse::<Token>(), Err(Error::TooLarge { .. })));
    assert!(matches!(Sealer::new(Keyring::single(copy)).open(&context, &token), Err(Error::TooLarge { .. })));
}

/// Every character of a token replaced by every other that a token could have there.
#[test]
fn every_change_of_one_character_is_refused() {
    let sealer = sealer();
    let context = Context::new("user-secret").tenant("42");
    let mut tried = 0;
    for secret in [&b""[..], b"secret", &[0; 64]] {
        let token = sealer.seal(&context, secret).unwrap().to_string();
        for at in 0..token.len() {
            for replacement in "ABMZabmz0127_-.=+/ \n".chars().filter(|c| *c != token.as_bytes()[at] as char) {
                let mut altered = token.clone();
                altered.replace_range(at..=at, &replacement.to_string());
                let opened = altered.parse::<Token>().and_then(|token| sealer.open(&context, &token));
                assert!(opened.is_err(), "character {at} as {replacement:?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 10_000, "{tried} changes");
}

#[test]
fn limits_of_contexts_are_kept() {
    let sealer = sealer();
    let seal = |context: Context| sealer.seal(&context, b"x").map(drop).map_err(|error| error.kind());
    let many = |count: usize| (0..count).fold(Context::none(), |context, at| context.extra(format!("{at:03}"), ""));
    assert_eq!(seal(many(64)), Ok(()));
    assert_eq!(seal(many(65)), Err(Kind::TooLarge));
    assert_eq!(seal(Context::none().name("x".repeat(4_096))), Ok(()));
    assert_eq!(seal(Context::none().name("x".repeat(4_097))), Err(Kind::TooLarge));
    assert_eq!(seal(Context::none().extra("", "x")), Err(Kind::Malformed));
    let full =
        |count: usize| (0..count).fold(Context::none(), |context, at| context.extra(at.to_string(), "x".repeat(4_000)));
    assert_eq!(seal(full(4)), Ok(()));
    assert_eq!(seal(full(5)), Err(Kind::TooLarge));
}

#[test]
fn a_remote_caller_learns_nothing_but_that_it_failed() {
    let sealer = sealer();
    let own = Context::new("p").tenant("1");
    let token = sealer.seal(&own, b"x").unwrap();
    let text = token.to_string();
    let altered = format!("{}{}", &text[..text.len() - 1], if text.ends_with('A') { 'Q' } else { 'A' });
    let errors = [
        sealer.open(&Context::new("p").tenant("2"), &token).unwrap_err(),
        altered.parse::<Token>().and_then(|token| sealer.open(&own, &token)).unwrap_err(),
        self::sealer().open(&own, &token).unwrap_err(),
        "vs9.".parse::<Token>().unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.public_code(), Kind::OpenFailed, "{error}");
    }
}

#[test]
fn key_texts_are_trimmed_as_their_application_does() {
    let kid = |text: &str, trim| TextKey::parse(text.as_bytes(), trim).unwrap().kid();
    assert_eq!(kid("k\n", Trim::LineBreak), kid("k", Trim::Nothing));
    assert_eq!(kid("k\r\n", Trim::LineBreak), kid("k", Trim::Nothing));
    assert_ne!(kid("k\n\n", Trim::LineBreak), kid("k", Trim::Nothing));
    assert_ne!(kid(" k", Trim::LineBreak), kid("k", Trim::Nothing));
    assert_eq!(kid("\u{1f}\u{a0}k\u{85} ", Trim::Python), kid("k", Trim::Nothing));
    assert_ne!(kid("\u{feff}k", Trim::Python), kid("k", Trim::Nothing), "Python keeps a byte order mark");
    for wrong in [&b""[..], b"\n", b"a\0b", b"\xff", &[b'a'; 4_097]] {
        assert!(TextKey::parse(wrong, Trim::Python).is_err());
    }
}
