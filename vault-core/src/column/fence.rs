//! What a fence says of itself in a database (docs/FORMAT.md, "In an application's database").

use crate::key::KeyId;

/// A fence: which keys a database refuses, and of which keyring.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Fence {
    /// The keys, ascending and each once; none where there is no fence.
    pub kids: Vec<KeyId>,
    /// The id of their keyring, where it has one.
    pub keyring: Option<String>,
    /// The generation of the keyring that the fence was put up under.
    pub generation: u64,
    /// Whether the table that it is on belongs to somebody whom the role of the connection does not
    /// act for. Such a fence proves nothing.
    pub is_of_others: bool,
}

impl Fence {
    /// A fence against keys of no particular keyring.
    #[must_use]
    pub fn against(kids: &[KeyId]) -> Self {
        let mut kids = kids.to_vec();
        kids.sort();
        kids.dedup();
        Self { kids, ..Self::default() }
    }

    /// The same, of a generation of a keyring.
    #[must_use]
    pub fn of(self, keyring: Option<&str>, generation: u64) -> Self {
        Self { keyring: keyring.map(str::to_owned), generation, ..self }
    }

    /// Whether it refuses the same keys as another one, and is no older.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.kids == other.kids && self.keyring == other.keyring && self.generation >= other.generation
    }

    /// The text that stands in the database.
    pub(crate) fn mark(&self) -> String {
        let keyring = self.keyring.as_deref().unwrap_or("-");
        let kids: Vec<_> = self.kids.iter().map(KeyId::as_str).collect();
        format!("vault-fence v1: keyring {keyring} generation {} keys {}", self.generation, kids.join(", "))
    }

    /// Reads exactly what [`mark`](Self::mark) writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (keyring, rest) = text.strip_prefix("vault-fence v1: keyring ")?.split_once(" generation ")?;
        let (generation, kids) = rest.split_once(" keys ")?;
        let is_id = |id: &str| id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let keyring = match keyring {
            "-" => None,
            id if is_id(id) => Some(id),
            _ => return None,
        };
        let kids: Vec<KeyId> = kids.split(", ").map(|kid| KeyId::parse(kid).ok()).collect::<Option<_>>()?;
        let fence = Self::against(&kids).of(keyring, generation.parse().ok()?);
        (fence.mark() == text).then_some(fence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_read() {
        let kids = ["kaaaaaaaaaaaaaaaa", "kbbbbbbbbbbbbbbbb"].map(|kid| KeyId::parse(kid).unwrap());
        let id = "0f6c1c1e0a7b4f1f9a3e5d2c7b8a9012";
        let fence = Fence::against(&[kids[1], kids[0], kids[1]]).of(Some(id), 12);
        let text = format!("vault-fence v1: keyring {id} generation 12 keys kaaaaaaaaaaaaaaaa, kbbbbbbbbbbbbbbbb");
        assert_eq!(fence.mark(), text);
        assert_eq!(Fence::parse(&text), Some(fence));
        let none = Fence::against(&kids[..1]);
        assert_eq!(none.mark(), "vault-fence v1: keyring - generation 0 keys kaaaaaaaaaaaaaaaa");
        assert_eq!(Fence::parse(&none.mark()), Some(none));
        for wrong in [
            text.replace("v1", "v2"),
            text.replace("12 keys", "012 keys"),
            text.replace("12 keys", "+12 keys"),
            text.replace(", k", ",k"),
            text.replace("aaaa", "cccc"),
            text.replace("bbbb", "aaaa").replace(", kb", ", ka"),
            text.replace("0f6c", "0F6C"),
            text.replace(id, "main"),
            format!("{text} "),
            format!("{text}, x"),
            String::new(),
        ] {
            assert_eq!(Fence::parse(&wrong), None, "{wrong}");
        }
    }
}
