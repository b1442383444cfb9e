//! Where the keys of a recipe lie: below `<name>#<recipe>/`. A name has no `#`, so that no recipe's
//! keys are among those of another, of a name below, or in the queue of a lock.

use crate::error::Error;

/// The prefix of all keys of a recipe.
///
/// # Errors
///
/// The name is none.
pub(super) fn prefix(name: &str, recipe: &str) -> Result<String, Error> {
    if name.is_empty() || name.contains('#') {
        return Err(Error::invalid(format!(
            "{name:?} cannot be the name of a {recipe}"
        )));
    }
    Ok(format!("{name}#{recipe}/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_and_nested_names_have_keys_of_their_own() {
        let prefixes = [
            ("a", "latch"),
            ("a", "queue"),
            ("a/b", "latch"),
            ("a/latch", "latch"),
        ];
        let prefixes = prefixes.map(|(name, recipe)| prefix(name, recipe).unwrap());
        for (at, one) in prefixes.iter().enumerate() {
            for other in &prefixes[at + 1..] {
                assert!(
                    !one.starts_with(other) && !other.starts_with(one),
                    "{one} and {other}"
                );
            }
        }
        assert!(prefix("", "latch").is_err() && prefix("a#latch/b", "latch").is_err());
    }
}
