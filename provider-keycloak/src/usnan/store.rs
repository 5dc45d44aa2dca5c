//! [`UsnanStore`].

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use keyfob_auth_core::{
    AuthError, Context, Login, TokenStore,
    registry::Settings,
    store::{Lease, LoginKey, Record, Saved, StoreError, StoreErrorKind, StoreInfo, TryLease, Version},
};
use keyfob_store_file::shared::{Change, Held, Privacy, SharedFile, SharedStore, TokenFormat};

use super::{CLIENT_ID, ISSUER, format};

/// The USNAN SDK's `tokens.json`, shared with it. Clones are the same store.
///
/// See the [module](super) for what goes where.
#[derive(Clone, Debug)]
pub struct UsnanStore(SharedStore);

impl UsnanStore {
    /// The login in this file. No I/O.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] if the path names no file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        // The SDK sees to the mode itself, a moment late.
        let file = SharedFile::at("the token file of the USNAN SDK", path)?.privacy(Privacy::Tighten);
        Ok(Self::of_file(&file, ISSUER, CLIENT_ID))
    }

    /// For a login at another issuer, or as another client: the SDK's own are constants.
    #[must_use]
    pub fn of(&self, issuer: &str, client_id: &str) -> Self {
        Self::of_file(self.0.file(), issuer, client_id)
    }

    fn of_file(file: &SharedFile, issuer: &str, client_id: &str) -> Self {
        let format = UsnanFormat { issuer: issuer.into(), client_id: client_id.into() };
        Self(SharedStore::new(format, file.clone()))
    }

    /// Where the SDK keeps it: `$XDG_DATA_HOME/usnan/tokens.json`, else `~/.local/share/usnan/tokens.json`; on macOS
    /// `~/Library/Application Support/usnan/tokens.json`; on Windows `%LOCALAPPDATA%\usnan\usnan\tokens.json`.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] if the user has no home folder.
    pub fn default_path() -> Result<PathBuf, StoreError> {
        let named = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home =
            |below: &str| env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(below));
        let data = if cfg!(windows) {
            named("LOCALAPPDATA").map(|local| local.join("usnan"))
        } else if cfg!(target_vendor = "apple") {
            home("Library/Application Support")
        } else {
            named("XDG_DATA_HOME").or_else(|| home(".local/share"))
        };
        data.map(|data| data.join("usnan").join("tokens.json")).ok_or_else(|| {
            let message =
                "there is no home folder where the USNAN SDK's tokens could be: set HOME, or name the file";
            StoreError::new(StoreErrorKind::Unavailable, message)
        })
    }

    /// The store that these settings describe: `path`, else the [default](Self::default_path); `issuer` and `client_id`, else
    /// the SDK's own.
    ///
    /// # Errors
    /// [`Configuration`](keyfob_auth_core::ErrorKind::Configuration) for a setting of another type, and those of
    /// [`open`](Self::open).
    pub fn from_settings(settings: &Settings, _: &Context) -> Result<Arc<dyn TokenStore>, AuthError> {
        let path = match settings.path("path")? {
            Some(path) => path,
            None => Self::default_path()?,
        };
        let issuer = settings.string("issuer")?;
        let client_id = settings.string("client_id")?;
        let store = Self::open(path)?
            .of(issuer.as_deref().unwrap_or(ISSUER), client_id.as_deref().unwrap_or(CLIENT_ID));
        Ok(Arc::new(store))
    }
}

#[async_trait]
impl TokenStore for UsnanStore {
    async fn load(&self, key: &LoginKey) -> Result<Option<(Record, Version)>, StoreError> {
        self.0.load(key).await
    }

    async fn save(
        &self,
        key: &LoginKey,
        record: Option<&Record>,
        expected: Option<&Version>,
        lease: Option<&dyn Lease>,
    ) -> Result<Saved, StoreError> {
        self.0.save(key, record, expected, lease).await
    }

    async fn try_lease(&self, key: &LoginKey) -> Result<TryLease, StoreError> {
        self.0.try_lease(key).await
    }

    fn describe(&self) -> StoreInfo {
        self.0.describe()
    }
}

/// A refresh token, and nothing else.
#[derive(Debug)]
struct UsnanFormat {
    issuer: String,
    client_id: String,
}

impl TokenFormat for UsnanFormat {
    fn kind(&self) -> &str {
        "usnan"
    }

    fn check(&self, key: &LoginKey) -> Result<(), StoreError> {
        let Self { issuer, client_id } = self;
        if key.issuer().trim_end_matches('/') == issuer.trim_end_matches('/') && key.client() == client_id {
            return Ok(());
        }
        let (asked, client) = (key.issuer(), key.client());
        let message = format!(
            "the USNAN SDK's token file is for the client `{client_id}` of {issuer}, not for `{client}` of {asked}: name \
             another store, or set the store's `issuer` and `client_id`"
        );
        Err(StoreError::new(StoreErrorKind::Unsupported, message))
    }

    fn read(&self, content: &[u8]) -> Result<Held, String> {
        Ok(Held { refresh_token: format::read(content)?, access_token: None })
    }

    fn held(&self, record: &Record, _: &Held) -> Held {
        let login = record.login.as_ref();
        Held { refresh_token: login.and_then(|login| login.refresh_token.clone()), access_token: None }
    }

    fn rest(&self, record: &Record) -> Record {
        let mut rest = record.clone();
        if let Some(login) = &mut rest.login {
            login.refresh_token = None;
        }
        rest
    }

    fn join(&self, held: &Held, rest: Option<&Record>) -> Record {
        let mut record = rest.cloned().unwrap_or_default();
        if held.refresh_token.is_some() {
            record.login.get_or_insert_with(Login::default).refresh_token.clone_from(&held.refresh_token);
        }
        record
    }

    fn write(&self, content: Option<&[u8]>, held: &Held) -> Result<Change, String> {
        format::write(content, held.refresh_token.as_ref())
    }
}
