//! [`Registry`]: provider and store factories by name.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{Settings, settings::closest};
use crate::{
    AuthError, Context, CredentialProvider, Keep, Session,
    authorize::Origins,
    store::{MemoryStore, TokenStore},
};

type ProviderFactory =
    dyn Fn(&Settings, &Context) -> Result<Arc<dyn CredentialProvider>, AuthError> + Send + Sync;
type StoreFactory = dyn Fn(&Settings, &Context) -> Result<Arc<dyn TokenStore>, AuthError> + Send + Sync;

/// Makes sessions from settings: knows providers and stores by the names that configuration files use.
///
/// The facade's `registry()` has all that are compiled in; an application adds its own.
pub struct Registry {
    providers: BTreeMap<String, Arc<ProviderFactory>>,
    stores: BTreeMap<String, Arc<StoreFactory>>,
    absent: BTreeMap<String, String>,
    default_store: String,
}

impl Default for Registry {
    /// No providers, and the store `memory`.
    fn default() -> Self {
        let registry = Self {
            providers: BTreeMap::new(),
            stores: BTreeMap::new(),
            absent: BTreeMap::new(),
            default_store: "memory".into(),
        };
        registry.store("memory", |_, context| {
            Ok(Arc::new(context.shared(|| Ok(MemoryStore::new()))?.as_ref().clone()))
        })
    }
}

/// A session, and what its profile says beside it.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The profile's name.
    pub name: String,
    /// The provider's name.
    pub provider: String,
    /// The session.
    pub session: Session,
    /// Where its tokens may go.
    pub origins: Origins,
    /// The full names of the settings that are secrets written down as literals: who can read the file has them.
    pub literal_secrets: Vec<String>,
}

impl Registry {
    /// No providers, and the store `memory`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a provider under this name, in the place of one that has it.
    ///
    /// The factory reads its settings by their keys; what it does not ask for is an unknown key. It does no I/O.
    #[must_use]
    pub fn provider<P, F>(mut self, name: impl Into<String>, factory: F) -> Self
    where
        P: CredentialProvider + 'static,
        F: Fn(&Settings, &Context) -> Result<P, AuthError> + Send + Sync + 'static,
    {
        let factory =
            move |settings: &Settings, context: &Context| Ok(Arc::new(factory(settings, context)?) as _);
        self.providers.insert(name.into(), Arc::new(factory));
        self
    }

    /// Adds a store under this name, in the place of one that has it.
    #[must_use]
    pub fn store(
        mut self,
        name: impl Into<String>,
        factory: impl Fn(&Settings, &Context) -> Result<Arc<dyn TokenStore>, AuthError> + Send + Sync + 'static,
    ) -> Self {
        self.stores.insert(name.into(), Arc::new(factory));
        self
    }

    /// Says which store a profile gets that names none.
    #[must_use]
    pub fn default_store(mut self, name: impl Into<String>) -> Self {
        self.default_store = name.into();
        self
    }

    /// Says that the provider or store of this name exists, but is compiled in only with this cargo feature.
    #[must_use]
    pub fn absent(mut self, name: impl Into<String>, feature: impl Into<String>) -> Self {
        self.absent.insert(name.into(), feature.into());
        self
    }

    /// The providers' names.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        self.providers.keys().map(String::as_str)
    }

    /// Makes the session of a profile: `provider`, `store`, `origins`, and the provider's own keys.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) for everything that is wrong in it.
    pub fn profile(&self, settings: &Settings, context: &Context) -> Result<Profile, AuthError> {
        let provider_name = settings.require_string("provider")?;
        let factory = self
            .providers
            .get(&provider_name)
            .ok_or_else(|| self.unknown(settings, "provider", &provider_name, self.providers.keys()))?;
        let origins = Origins::parse(settings.strings("origins")?.unwrap_or_default())
            .map_err(|error| settings.bad("origins", error.message()))?;
        let provider = factory(settings, context)?;
        // Its own keys first: a store that is missing would hide what is wrong with them.
        settings.has("store");
        settings.finish()?;
        let store = self.open_store(settings, context, provider.keeps())?;
        let session =
            Session::builder(provider).store(store).context(context).label(settings.label()).build()?;
        Ok(Profile {
            name: settings.label().to_owned(),
            provider: provider_name,
            session,
            origins,
            literal_secrets: settings.literal_secrets(),
        })
    }

    fn open_store(
        &self,
        settings: &Settings,
        context: &Context,
        keep: Keep,
    ) -> Result<Arc<dyn TokenStore>, AuthError> {
        let table = if settings.is_table("store") { settings.table("store")? } else { None };
        let kind = match &table {
            Some(table) => table.require_string("kind")?,
            None => match settings.string("store")? {
                Some(kind) => kind,
                None if self.stores.contains_key(&self.default_store) => self.default_store.clone(),
                // Nothing of it goes to any store.
                None if keep != Keep::Store => "memory".into(),
                None => return Err(self.no_default_store(settings)),
            },
        };
        let factory = self
            .stores
            .get(&kind)
            .ok_or_else(|| self.unknown(settings, "store", &kind, self.stores.keys()))?;
        let table = table.unwrap_or_else(|| Settings::new(format!("{}.store", settings.name())));
        let store = factory(&table, context)?;
        table.finish()?;
        Ok(store)
    }

    fn no_default_store(&self, settings: &Settings) -> AuthError {
        let default = &self.default_store;
        let missing = match self.absent.get(default) {
            Some(feature) => format!("is not compiled in: turn on keyfob's feature `{feature}`"),
            None => "is unknown to this program: register it".into(),
        };
        settings.bad_at(
            "store",
            &format!(
                "no `store` is given, and the default, `{default}`, {missing}, or write `store = \"memory\"`"
            ),
        )
    }

    fn unknown<'a>(
        &self,
        settings: &Settings,
        what: &str,
        name: &str,
        known: impl Iterator<Item = &'a String> + Clone,
    ) -> AuthError {
        if let Some(feature) = self.absent.get(name) {
            return settings.bad(
                what,
                &format!("is {name:?}, which is not compiled in: turn on keyfob's feature `{feature}`"),
            );
        }
        let meant = closest(name, known.clone().map(String::as_str));
        let known: Vec<&str> = known.map(String::as_str).collect();
        settings.bad_at(
            what,
            &format!("this program has no {what} {name:?}{meant} (there are: {})", known.join(", ")),
        )
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("providers", &self.providers.keys().collect::<Vec<_>>())
            .field("stores", &self.stores.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AccessToken, Acquired, Identity, Login, TokenRequest, async_trait, registry::Value};

    #[derive(Debug)]
    struct Fixed(Keep);

    #[async_trait]
    impl CredentialProvider for Fixed {
        fn identity(&self) -> Identity {
            Identity::new("fixed")
        }

        async fn acquire(&self, _: &TokenRequest, _: Option<&Login>) -> Result<Acquired, AuthError> {
            Ok(Acquired::token(AccessToken::new("abc")))
        }

        fn keeps(&self) -> Keep {
            self.0
        }
    }

    fn registry() -> Registry {
        let registry = Registry::new().default_store("file").absent("file", "store-file");
        registry
            .provider("kept", |_, _| Ok(Fixed(Keep::Store)))
            .provider("passing", |settings, _| settings.secret("token").map(|_| Fixed(Keep::Memory)))
    }

    fn made(provider: &str, keys: &[&str]) -> Result<Profile, AuthError> {
        let text = |text: &str| Value::String(text.into());
        let settings = Settings::new("profile.a").with("provider", text(provider), Some(2));
        let settings =
            keys.iter().fold(settings, |settings, key| settings.with(*key, text("memory"), Some(3)));
        registry().profile(&settings, &Context::new())
    }

    #[test]
    fn a_default_store_that_is_not_there_matters_only_to_what_is_kept() {
        assert!(made("passing", &[]).is_ok() && made("kept", &["store"]).is_ok());
        assert_eq!(
            made("kept", &[]).unwrap_err().to_string(),
            "profile.a: no `store` is given, and the default, `file`, is not compiled in: turn on keyfob's feature \
             `store-file`, or write `store = \"memory\"`"
        );
        assert!(made("kept", &["tokn"]).unwrap_err().to_string().contains("unknown key `tokn`"));
    }

    #[test]
    fn a_provider_that_nobody_added_is_told_with_those_there_are() {
        assert_eq!(
            made("pasing", &[]).unwrap_err().to_string(),
            "profile.a: this program has no provider \"pasing\"; did you mean `passing`? (there are: kept, passing) \
             [line 2]"
        );
    }
}
