//! [`Outgoing`]: a request that is about to be sent.

use http::{HeaderMap, Method};

use super::origins::Target;

/// A request as an HTTP client has it, whose headers are changed where they are.
pub(crate) trait Outgoing {
    type Target: Target;

    fn method(&self) -> &Method;
    fn target(&self) -> &Self::Target;
    fn headers(&self) -> &HeaderMap;
    fn headers_mut(&mut self) -> &mut HeaderMap;
}

/// A request whose parts the client keeps apart.
pub(super) struct Parts<'a, T> {
    pub(super) method: &'a Method,
    pub(super) target: &'a T,
    pub(super) headers: &'a mut HeaderMap,
}

impl<T: Target> Outgoing for Parts<'_, T> {
    type Target = T;

    fn method(&self) -> &Method {
        self.method
    }

    fn target(&self) -> &T {
        self.target
    }

    fn headers(&self) -> &HeaderMap {
        self.headers
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers
    }
}
