//! What the configuration says: contexts, and the clusters and users that they name.

use super::yaml::Node;

/// The names of the lists, of what is in them, and of what a context calls one.
const LISTS: [(&str, &str); 3] = [("clusters", "cluster"), ("users", "user"), ("contexts", "context")];

/// A configuration that makes sense as a whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Config<'n, 't>(pub(super) Option<&'n Node<'t>>);

impl<'n, 't> Config<'n, 't> {
    /// Checks what the real client checks: maps and lists where they are due, names that are there once, and that what a
    /// context names is there. A file that is cut off is noticed so in most places.
    pub(super) fn checked(root: Option<&'n Node<'t>>) -> Result<Self, String> {
        let config = Self(root);
        let Some(root) = root else { return Ok(config) };
        if root.pairs().is_none() {
            return Err("it is no mapping".into());
        }
        for (list, one) in LISTS {
            let items = config.items(list)?;
            let mut names = Vec::with_capacity(items.len());
            for item in items {
                if item.pairs().is_none() {
                    return Err(format!("an item of `{list}` is no mapping"));
                }
                names.push(required(item, "name", one)?);
            }
            names.sort_unstable();
            if let Some(twice) = names.windows(2).find(|pair| pair.first() == pair.last()) {
                return Err(format!(
                    "two {list} are called {:?}",
                    twice.first().copied().unwrap_or_default()
                ));
            }
        }
        if root.get("contexts")?.is_none() {
            for key in ["current_context", "clusters", "users"] {
                if root.find(key)?.is_some() {
                    return Err(format!("it has `{key}` and no `contexts`"));
                }
            }
        }
        for context in config.items("contexts")? {
            for (list, one) in &LISTS[..2] {
                let name = required(context, one, "context")?;
                if config.item(list, name)?.is_none() {
                    let context = required(context, "name", "context")?;
                    return Err(format!("the context {context:?} names a {one} {name:?} that is not there"));
                }
            }
        }
        if let Some(current) = config.current_context()?
            && !config.items("contexts")?.is_empty()
            && config.item("contexts", current)?.is_none()
        {
            return Err(format!("its current context {current:?} is not there"));
        }
        Ok(config)
    }

    /// The name of the current context.
    pub(super) fn current_context(&self) -> Result<Option<&'n str>, String> {
        let Some(current) = self.get("current_context")? else { return Ok(None) };
        current.text().map(Some).ok_or_else(|| "its `current_context` is no text".into())
    }

    /// The items of a list at the top.
    pub(super) fn items(&self, list: &str) -> Result<&'n [Node<'t>], String> {
        let Some(found) = self.get(list)? else { return Ok(&[]) };
        found.items().ok_or_else(|| format!("its `{list}` is no list"))
    }

    /// The item of this name.
    pub(super) fn item(&self, list: &str, name: &str) -> Result<Option<&'n Node<'t>>, String> {
        for item in self.items(list)? {
            if item.get("name")?.and_then(Node::text) == Some(name) {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    /// What the context calls its user or its cluster; what the real client would call it, if there is no such context.
    pub(super) fn name_of(&self, context: &str, what: &str) -> Result<String, String> {
        match self.item("contexts", context)? {
            Some(context) => required(context, what, "context").map(str::to_owned),
            None => Ok(format!("{context}-{what}")),
        }
    }

    fn get(&self, key: &str) -> Result<Option<&'n Node<'t>>, String> {
        self.0.map_or(Ok(None), |root| root.get(key))
    }
}

/// The text of a key that has to be there.
fn required<'n>(map: &'n Node<'_>, key: &str, of: &str) -> Result<&'n str, String> {
    let found = map.get(key)?.and_then(Node::text).filter(|text| !text.trim().is_empty());
    found.ok_or_else(|| format!("a {of} has no `{key}`"))
}

/// The text of a key, if it is there.
pub(super) fn optional<'n>(map: &'n Node<'_>, key: &str) -> Result<Option<&'n str>, String> {
    let Some(found) = map.get(key)? else { return Ok(None) };
    found.text().map(Some).ok_or_else(|| format!("its `{key}` is no text"))
}
