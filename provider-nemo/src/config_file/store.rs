//! [`NemoStore`].

use std::{
    env, fmt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use keyfob_auth_core::{
    AuthError, Context, TokenStore,
    registry::Settings,
    store::{Lease, LoginKey, Record, Saved, StoreError, StoreErrorKind, StoreInfo, TryLease, Version},
};
use keyfob_store_file::shared::{Privacy, SharedFile, SharedStore};
use url::Url;

use super::{
    KIND,
    config::{Config, optional},
    format::{NemoFormat, text_of},
    yaml,
};
use crate::profiles;

/// The context that is made where there is none.
const DEFAULT_CONTEXT: &str = "default";
/// How old content is before it counts: its beginning makes sense without its end.
const SETTLED: Duration = Duration::from_millis(20);

/// The platform's `config.yaml`, shared with its real clients: one context's login. Clones are the same store.
///
/// See the [module](super) for what goes where.
#[derive(Clone)]
pub struct NemoStore {
    file: SharedFile,
    context: Option<Arc<str>>,
    base_url: Option<Arc<str>>,
    /// The context that was the current one when it was first looked for: a renewal must not end in another's user.
    current: Arc<OnceLock<String>>,
}

/// What a context says about how to reach its platform.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connection {
    /// The context's name.
    pub context: String,
    /// The platform's address, as it is written.
    pub base_url: String,
    /// The file with the authorities that its certificate may come from, where that is said.
    pub certificate_authority: Option<PathBuf>,
    /// The name of the user whose login it is.
    pub user: String,
    /// The workspace, where one is said.
    pub workspace: Option<String>,
}

/// What was found of a context.
struct Resolved {
    context: String,
    user: String,
    connection: Option<Connection>,
    /// Whether the context is there.
    found: bool,
}

impl NemoStore {
    /// The current context's login in this file. No I/O: which context that is shows at the first call that finds one, and
    /// stays so.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] if the path names no file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        // The clients see to the mode themselves.
        let file = SharedFile::at("the configuration of NeMo Platform", path)?.privacy(Privacy::Tighten);
        Ok(Self { file: file.settle(SETTLED), context: None, base_url: None, current: Arc::default() })
    }

    /// The login of this context.
    #[must_use]
    pub fn context(mut self, name: impl Into<Arc<str>>) -> Self {
        self.context = Some(name.into());
        self
    }

    /// The platform that the context has to be for: a context for another is refused, and one that is not there is made
    /// for this.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unsupported`] for what is no `http` or `https` URL.
    pub fn base_url(mut self, url: &str) -> Result<Self, StoreError> {
        let url = normal(url).ok_or_else(|| {
            let message = format!("{url:?} is no address of a platform: write https://HOST");
            StoreError::new(StoreErrorKind::Unsupported, message)
        })?;
        self.base_url = Some(url.into());
        Ok(self)
    }

    /// Where the real clients keep it: `NMP_CONFIG_FILE`; else `$XDG_CONFIG_HOME/nmp/config.yaml` if that folder is there;
    /// else `~/.config/nmp/config.yaml`.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] if the user has no home folder.
    pub fn default_path() -> Result<PathBuf, StoreError> {
        let named = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(file) = named("NMP_CONFIG_FILE") {
            return Ok(file);
        }
        let xdg = named("XDG_CONFIG_HOME").map(|folder| folder.join("nmp")).filter(|folder| folder.exists());
        let home = || env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(".config/nmp"));
        xdg.or_else(home).map(|folder| folder.join("config.yaml")).ok_or_else(|| {
            let message = "there is no home folder where NeMo Platform's configuration could be: set HOME or NMP_CONFIG_FILE";
            StoreError::new(StoreErrorKind::Unavailable, message)
        })
    }

    /// The store that these settings describe: `path`, else the [default](Self::default_path); `context`, else
    /// `NMP_CURRENT_CONTEXT`, else the file's current one; `base_url`. If they say nothing of these and the profile's
    /// provider is [`Nemo`](crate::Nemo), the store is of the context that the provider uses.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) for a setting of another type, and those of
    /// [`open`](Self::open) and [`base_url`](Self::base_url).
    pub fn from_settings(settings: &Settings, context: &Context) -> Result<Arc<dyn TokenStore>, AuthError> {
        if !["path", "context", "base_url"].iter().any(|key| settings.has(key))
            && let Some(store) = profiles::of_store(settings, context)?
        {
            return Ok(Arc::new(store));
        }
        let path = match settings.path("path")? {
            Some(path) => path,
            None => Self::default_path()?,
        };
        let mut store = Self::open(path)?;
        let named = || env::var("NMP_CURRENT_CONTEXT").ok().filter(|name| !name.is_empty());
        if let Some(context) = settings.string("context")?.or_else(named) {
            store = store.context(context);
        }
        if let Some(url) = settings.string("base_url")? {
            store = store.base_url(&url).map_err(|error| settings.bad("base_url", &error.to_string()))?;
        }
        Ok(Arc::new(store))
    }

    /// What the context says about its platform; `None` if there is no such context.
    ///
    /// # Errors
    /// [`StoreErrorKind::Corrupt`] for a file that makes no sense, [`StoreErrorKind::Denied`] for one that is not ours to
    /// read, [`StoreErrorKind::Unsupported`] if no context is the current one, or it is for another platform.
    pub async fn connection(&self) -> Result<Option<Connection>, StoreError> {
        Ok(self.resolve().await?.connection)
    }

    /// The context and its user, as they are now.
    async fn resolve(&self) -> Result<Resolved, StoreError> {
        let wanted = self.context.as_deref().or_else(|| self.current.get().map(String::as_str));
        let found = self.file.read(|content| resolve(content, wanted)).await?;
        let resolved = match found.map(|found| found.value) {
            Some(Some(resolved)) => resolved,
            Some(None) => {
                let path = self.file.path().display();
                let message = format!(
                    "'{path}' has contexts, and none is the current one: set `context`, or choose one with `nemo config \
                     use-context NAME`"
                );
                return Err(StoreError::new(StoreErrorKind::Unsupported, message));
            }
            None => Resolved::absent(wanted.unwrap_or(DEFAULT_CONTEXT).to_owned()),
        };
        if let (Some(wanted), Some(connection)) = (&self.base_url, &resolved.connection)
            && normal(&connection.base_url).as_deref() != Some(wanted)
        {
            let (path, Connection { context, base_url, .. }) = (self.file.path().display(), connection);
            let message = format!(
                "the context {context:?} in '{path}' is for {base_url}, not for {wanted}: set another `context` or `base_url`"
            );
            return Err(StoreError::new(StoreErrorKind::Unsupported, message));
        }
        if resolved.found && self.context.is_none() {
            self.current.get_or_init(|| resolved.context.clone());
        }
        Ok(resolved)
    }

    async fn store(&self) -> Result<SharedStore, StoreError> {
        let Resolved { context, user, .. } = self.resolve().await?;
        let base_url = self.base_url.as_deref().map(str::to_owned);
        Ok(SharedStore::new(NemoFormat { context, user, base_url }, self.file.clone()))
    }
}

impl Resolved {
    fn absent(context: String) -> Self {
        Self { user: format!("{context}-user"), context, connection: None, found: false }
    }
}

/// `None` if nobody says which context it is to be.
fn resolve(content: &[u8], wanted: Option<&str>) -> Result<Option<Resolved>, String> {
    let root = yaml::parse(text_of(content)?)?;
    let config = Config::checked(root.as_ref())?;
    let current = config.current_context()?;
    let Some(context) = wanted.or(current) else {
        let contexts = config.items("contexts")?;
        return Ok(contexts.is_empty().then(|| Resolved::absent(DEFAULT_CONTEXT.to_owned())));
    };
    let Some(found) = config.item("contexts", context)? else {
        return Ok(Some(Resolved {
            user: config.name_of(context, "user")?,
            ..Resolved::absent(context.to_owned())
        }));
    };
    let user = config.name_of(context, "user")?;
    let cluster =
        config.item("clusters", &config.name_of(context, "cluster")?)?.ok_or("a cluster is not there")?;
    let base_url = optional(cluster, "base_url")?.ok_or_else(|| "a cluster has no `base_url`".to_owned())?;
    let connection = Connection {
        context: context.to_owned(),
        base_url: base_url.to_owned(),
        certificate_authority: optional(cluster, "certificate_authority")?.map(PathBuf::from),
        user: user.clone(),
        workspace: optional(found, "workspace")?.map(str::to_owned),
    };
    Ok(Some(Resolved { context: context.to_owned(), user, connection: Some(connection), found: true }))
}

/// An address as the real clients write it: with a slash after the host.
fn normal(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then(|| url.to_string())
}

#[async_trait]
impl TokenStore for NemoStore {
    async fn load(&self, key: &LoginKey) -> Result<Option<(Record, Version)>, StoreError> {
        self.store().await?.load(key).await
    }

    async fn save(
        &self,
        key: &LoginKey,
        record: Option<&Record>,
        expected: Option<&Version>,
        lease: Option<&dyn Lease>,
    ) -> Result<Saved, StoreError> {
        self.store().await?.save(key, record, expected, lease).await
    }

    async fn try_lease(&self, key: &LoginKey) -> Result<TryLease, StoreError> {
        self.store().await?.try_lease(key).await
    }

    fn describe(&self) -> StoreInfo {
        let mut info = StoreInfo::new(KIND);
        let context = self.context.as_deref().unwrap_or("the current one");
        info.location = Some(format!("{} (context {context})", self.file.path().display()));
        info.keeps.binding_key = false;
        info
    }
}

impl fmt::Debug for NemoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NemoStore")
            .field("file", &self.file.path())
            .field("context", &self.context)
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}
