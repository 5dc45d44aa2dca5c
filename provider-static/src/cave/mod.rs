//! [`Cave`]: tokens of CAVE (Connectome Annotation Versioning Engine), in the files that its other clients use.

mod files;
mod save;
mod server;

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, StatusCode, Uri, header};
use keyfob_auth_core::{
    Acquired, AuthError, Context, CredentialProvider, ErrorKind, Identity, Interaction, Keep, Login,
    LoginRequest, Prompt, Question, SecretString, TokenRequest, async_trait,
    authorize::Origins,
    registry::{SecretSource, Settings},
};

use self::{
    files::{DEPRECATED, Files, GENERAL},
    server::{GLOBAL, Server},
};
use crate::{
    content::{self, Serves},
    json::Member,
    unique,
};

/// Tokens of a CAVE server (Connectome Annotation Versioning Engine), in the files that its other clients use.
///
/// A CAVE token is opaque and does not expire; it ends when the same person makes a new one. It goes into
/// `Authorization: Bearer`. What is found in a file serves 10 s before the file is read again, so that a token that another
/// program saves is seen.
///
/// # Where the token comes from
/// The first of these:
/// 1. the one that was [given](Self::token),
/// 2. [that file](Self::token_file), if one was named, and no other,
/// 3. this server's own file, `HOST[:PORT]-cave-secret.json`, if there is one,
/// 4. else the general file, `cave-secret.json`,
/// 5. and if the file that was found has no token under the [key](Self::token_key), or there is none: the general file's
///    name of old, `chunkedgraph-secret.json`, with a warning.
///
/// The files are in the folder `secrets` of the folder that `CLOUD_VOLUME_DIR` names, and in `~/.cloudvolume/secrets`: each
/// is looked for first in the one, then in the other.
///
/// | Program | reads in | writes in |
/// |---|---|---|
/// | keyfob | `$CLOUD_VOLUME_DIR/secrets`, then `~/.cloudvolume/secrets` | `$CLOUD_VOLUME_DIR/secrets` if the variable is set, else `~/.cloudvolume/secrets` |
/// | caveclient | `~/.cloudvolume/secrets`, whatever the variable says | the same |
/// | cloud-volume, cloud-files | `$CLOUD_VOLUME_DIR/secrets` if the variable is set, else `~/.cloudvolume/secrets` | |
///
/// Where the variable is set, caveclient does not see what keyfob saves: leave it unset, or name the same folder to both.
///
/// # Where the general token goes
/// Only to the global server, `https://global.daf-apis.com`, and to servers that were
/// [listed](Self::general_token_for). For any other the general file (and that of old) is neither read nor written: a
/// server that somebody merely named gets no token that was not saved for it. CAVE's own client sends it to every server.
///
/// # A login page in the place of an answer
/// CAVE's servers redirect a request without a valid token to a login page. keyfob's client takes any redirect of a request
/// with the token for that, as CAVE's own does, unless it only adds a slash: it reads the files once more, and if there is
/// no other token it is an error that says where to make a new one.
///
/// # Settings
/// `provider = "cave"`; `server` (the global one unless said), `token_file`, `token_key`. The servers in `origins` are
/// listed ones.
///
/// # Examples
/// ```
/// use keyfob_auth_core::{AuthError, authorize::Origins};
/// use keyfob_provider_static::Cave;
///
/// let cave = Cave::new("https://global.daf-apis.com")?;
/// let datastack = Cave::new("https://cave.example.org")?
///     .general_token_for(&Origins::parse(["https://cave.example.org"])?);
/// println!("{}", cave.get_new_token(None).instructions);
/// # let _ = datastack;
/// # Ok::<_, AuthError>(())
/// ```
#[derive(Clone)]
pub struct Cave {
    server: Server,
    label: String,
    token: Option<(SecretString, Identity)>,
    token_file: Option<PathBuf>,
    key: String,
    folders: Vec<PathBuf>,
    /// Whether the general token may go to this server.
    general: bool,
    files: Arc<Files>,
    /// Where the last token was found: for the error of who is sent to a login page.
    found_in: Arc<Mutex<Option<String>>>,
}

/// How a person gets a new token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewToken {
    /// The page that makes it. Opening it ends the token before.
    pub url: String,
    /// What to do, in a few lines.
    pub instructions: String,
}

impl NewToken {
    /// Opens the page in the person's browser, or in the program that `BROWSER` names. It may block until that program has
    /// ended. Opening the page is what ends the token before, so ask the person first.
    ///
    /// # Errors
    /// [`NotConfigured`](ErrorKind::NotConfigured) if there is no browser to open it in: show [`url`](Self::url) then.
    #[cfg(feature = "browser")]
    pub fn open(&self) -> Result<(), AuthError> {
        webbrowser::open(&self.url).map_err(|error| {
            AuthError::not_configured(format!("no browser could be opened; open {} by hand", self.url))
                .with_source(error)
        })
    }
}

impl Cave {
    /// Tokens of this server: `https://HOST[:PORT]`, or `HOST[:PORT]` alone. Plain http on loopback only. No I/O.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if that is no server's address.
    pub fn new(server: &str) -> Result<Self, AuthError> {
        let server = Server::parse(server)?;
        Ok(Self {
            general: server.is_global(),
            server,
            label: String::new(),
            token: None,
            token_file: None,
            key: "token".into(),
            folders: files::folders(),
            files: Arc::default(),
            found_in: Arc::default(),
        })
    }

    /// Always this token: no file is read.
    #[must_use]
    pub fn token(mut self, token: impl Into<SecretString>) -> Self {
        self.token = Some((token.into(), unique("cave", "token")));
        self
    }

    /// The tokens in this file, and in no other.
    #[must_use]
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token_file = Some(path.into());
        self
    }

    /// The token under this key of the file; `token` unless said.
    #[must_use]
    pub fn token_key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    /// The files in this folder, instead of those in `$CLOUD_VOLUME_DIR/secrets` and `~/.cloudvolume/secrets`.
    #[must_use]
    pub fn secrets_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folders = vec![folder.into()];
        self
    }

    /// Lists servers that the general token may go to. It concerns this one if it is among them.
    #[must_use]
    pub fn general_token_for(mut self, servers: &Origins) -> Self {
        self.general |= self.server.is_in(servers);
        self
    }

    /// How a person gets a new token. Shown to the person too, as a URL to open, if there is one: an application's
    /// [`Interaction`] may open a browser there.
    ///
    /// Making a new token ends the one before, on every machine that has it.
    pub fn get_new_token(&self, ui: Option<&dyn Interaction>) -> NewToken {
        let url = self.server.new_token_url();
        let instructions = format!(
            "A CAVE token is made by hand:\n\
             1. Open {url} and sign in. This ends the token that you had, wherever it is used.\n\
             2. Copy the token that is shown there.\n\
             3. Save it: {}.",
            self.how_to_save()
        );
        if let Some(ui) = ui {
            ui.show(&Prompt::OpenUrl { url: url.clone() });
        }
        NewToken { url, instructions }
    }

    /// The provider that these settings describe.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) for what is wrong in them.
    pub fn from_settings(settings: &Settings, _: &Context) -> Result<Self, AuthError> {
        let server = settings.string("server")?;
        let cave = Self::new(server.as_deref().unwrap_or(GLOBAL))
            .map_err(|error| settings.bad("server", &format!("is none: {}", error.message())))?;
        let origins = Origins::parse(settings.strings("origins")?.unwrap_or_default())
            .map_err(|error| settings.bad("origins", error.message()))?;
        let mut cave = cave.general_token_for(&origins);
        settings.label().clone_into(&mut cave.label);
        cave.token_file = settings.path("token_file")?;
        if settings.has("token_key") {
            cave.key = settings.require_string("token_key")?;
        }
        Ok(cave)
    }

    /// The token, and where it was found.
    async fn find(&self) -> Result<(SecretString, String), AuthError> {
        if let Some((token, _)) = &self.token {
            return Ok((token.clone(), "the token that Cave was given".into()));
        }
        let (mut absent, mut looked) = (Vec::new(), Vec::new());
        let (first, second) = self.candidates();
        for paths in [first, second] {
            for path in paths {
                let Some(members) = self.files.read(&path).await? else {
                    absent.push(format!("no {}", path.display()));
                    continue;
                };
                match members.get(&self.key) {
                    Member::Text(token) => {
                        if path.ends_with(DEPRECATED) && self.token_file.is_none() {
                            self.files.warn_of_deprecated(&path);
                        }
                        return Ok((token, path.display().to_string()));
                    }
                    Member::Absent => {
                        let (path, key) = (path.display(), &self.key);
                        looked
                            .push(format!("{path} has no token under the key `{key}` ({})", members.names()));
                    }
                    Member::NoText => {
                        let message =
                            format!("what it has under the key `{}` is no text, so no token", self.key);
                        return Err(AuthError::configuration(message).with_origin(path.display().to_string()));
                    }
                }
                break;
            }
        }
        if !absent.is_empty() {
            looked.push(format!("there is {}", absent.join(", ")));
        }
        Err(self.nothing(looked))
    }

    /// The files of which the first that exists counts, and those after it, if it has no token.
    fn candidates(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        if let Some(file) = &self.token_file {
            return (vec![file.clone()], Vec::new());
        }
        let everywhere = |name: &str| self.folders.iter().map(|folder| folder.join(name)).collect::<Vec<_>>();
        let mut first = everywhere(&self.server.file_name());
        if !self.general {
            return (first, Vec::new());
        }
        first.extend(everywhere(GENERAL));
        (first, everywhere(DEPRECATED))
    }

    fn nothing(&self, mut looked: Vec<String>) -> AuthError {
        let url = &self.server.url;
        if !self.general && self.token_file.is_none() {
            let kept =
                [GENERAL, DEPRECATED].iter().flat_map(|name| self.folders.iter().map(move |f| f.join(name)));
            looked.extend(kept.filter(|path| path.exists()).map(|path| {
                let path = path.display();
                format!("{path} is only for {GLOBAL} and servers that are listed: put {url} into `origins` to send it there")
            }));
        }
        if looked.is_empty() {
            looked.push("this user has no home folder: name a `token_file`".into());
        }
        AuthError::login_required(format!(
            "no token for the CAVE server {url}: {}; make one at {}, and save it: {}",
            looked.join("; "),
            self.server.new_token_url(),
            self.how_to_save()
        ))
    }

    fn how_to_save(&self) -> String {
        let (key, paths) = (&self.key, self.paths());
        let by_hand = |path: &PathBuf| {
            let path = path.display();
            format!(
                ", or write {{\"{key}\": \"THE TOKEN\"}} into {path} by hand, for yourself alone (mode 0600)"
            )
        };
        let by_hand = paths.first().map(by_hand).unwrap_or_default();
        format!("`keyfob login` at a terminal asks for it, `Cave::save_token` takes it in a program{by_hand}")
    }

    /// Whether a redirect to there is no more than a slash at the end of the path.
    fn adds_a_slash(from: &Uri, to: &str) -> bool {
        let Ok(to) = to.parse::<Uri>() else { return false };
        let same_host =
            to.host().is_none_or(|host| from.host().is_some_and(|f| f.eq_ignore_ascii_case(host)));
        same_host && to.path().trim_end_matches('/') == from.path().trim_end_matches('/')
    }
}

#[async_trait]
impl CredentialProvider for Cave {
    fn identity(&self) -> Identity {
        let identity = match (&self.token, &self.token_file) {
            (Some((_, unique)), _) => unique.clone(),
            (None, Some(file)) => {
                Identity::new("cave").grant("file").tenant(file.display().to_string()).client(&self.key)
            }
            (None, None) => Identity::new("cave")
                .grant("files")
                .tenant(self.folders.first().map(|folder| folder.display().to_string()).unwrap_or_default())
                .client(&self.key),
        };
        identity.issuer(&self.server.url).label(&self.label)
    }

    async fn acquire(&self, _: &TokenRequest, _: Option<&Login>) -> Result<Acquired, AuthError> {
        let (token, found_in) = self.find().await?;
        let serves = if self.token.is_some() { Serves::ForEver } else { Serves::UntilReread };
        let token = content::timed(&token, None, serves);
        let token = token.and_then(|token| self.present(&token, None).map(|_| token));
        let token = token.map_err(|error| error.with_origin(&found_in))?;
        *self.found_in.lock().unwrap_or_else(PoisonError::into_inner) = Some(found_in);
        Ok(Acquired::token(token))
    }

    /// Asks for a token that was made by hand, and [saves](Cave::save_token) it in the place of the one before. Where
    /// nobody can be asked, or the token was given, the one that is there is the login.
    async fn login(
        &self,
        request: &LoginRequest,
        _: Option<&Login>,
        ui: Arc<dyn Interaction>,
    ) -> Result<Acquired, AuthError> {
        let mut unasked = None;
        if self.token.is_none() {
            let text = format!(
                "The CAVE token that {} shows once you are signed in there (it ends the one that you had)",
                self.server.new_token_url()
            );
            match ui.ask(&Question { text, secret: true }).await {
                Ok(token) => drop(self.save_token(token, &self.key, true).await?),
                Err(error) if error.kind() == ErrorKind::InteractionRequired => unasked = Some(error),
                Err(error) => return Err(error),
            }
        }
        let told = |error: AuthError| match &unasked {
            Some(why) => {
                let message = format!("{}; {}", why.message(), error.message());
                error.with_message(message)
            }
            None => error,
        };
        self.acquire(&request.token, None).await.map_err(told)
    }

    fn refusal(&self, from: &Uri, status: StatusCode, headers: &HeaderMap) -> Option<AuthError> {
        let to =
            headers.get(header::LOCATION).filter(|_| matches!(status.as_u16(), 301..=303 | 307 | 308))?;
        if to.to_str().is_ok_and(|to| Self::adds_a_slash(from, to)) {
            return None;
        }
        let error = AuthError::refused(format!(
            "the server sent the request to a login page, which is how CAVE says that the token is not valid; make a new one \
             at {} and put it in this one's place",
            self.server.new_token_url()
        ));
        let found_in = self.found_in.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(match found_in {
            Some(found_in) => error.with_status(status.as_u16()).with_origin(found_in),
            None => error.with_status(status.as_u16()),
        })
    }

    fn keeps(&self) -> Keep {
        Keep::Memory
    }

    fn secret_revision(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        if let Some((token, _)) = &self.token {
            SecretSource::Literal(token.clone()).revision().hash(&mut hasher);
        } else {
            let (first, second) = self.candidates();
            for path in first.into_iter().chain(second) {
                SecretSource::File(path).revision().hash(&mut hasher);
            }
        }
        Some(hasher.finish())
    }
}

impl fmt::Debug for Cave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cave")
            .field("server", &self.server.url)
            .field("token", &self.token.is_some())
            .field("token_file", &self.token_file)
            .field("key", &self.key)
            .field("folders", &self.folders)
            .field("general", &self.general)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
