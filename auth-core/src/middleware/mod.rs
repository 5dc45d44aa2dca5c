//! [`AuthClient`]: a reqwest client that puts a session's token on its requests.

mod client;
mod redirect;
mod service;

use crate::AuthError;

pub use self::{
    client::{AuthClient, AuthClientBuilder},
    redirect::TooManyRedirects,
    service::AuthMiddleware,
};

/// The [`AuthError`] that an error of the client is or was caused by; `None` if it has another cause.
///
/// # Examples
/// ```
/// use keyfob_auth_core::{ErrorKind, middleware::{AuthClient, auth_error}};
///
/// # async fn call(client: AuthClient) {
/// match client.get("https://api.example/jobs").send().await {
///     Ok(answer) => println!("{}", answer.status()),
///     Err(error) if auth_error(&error).is_some_and(|e| e.kind() == ErrorKind::LoginRequired) => println!("log in first"),
///     Err(error) => println!("{error}"),
/// }
/// # }
/// ```
pub fn auth_error(error: &reqwest_middleware::Error) -> Option<&AuthError> {
    match error {
        reqwest_middleware::Error::Middleware(error) => error.chain().find_map(|cause| cause.downcast_ref()),
        reqwest_middleware::Error::Reqwest(_) => None,
    }
}
