//! Nonces that a server makes its clients put into DPoP proofs (RFC 9449 sections 8 and 9).

use super::signer::random;

/// The nonce of one server: the authorization server's or the resource server's.
#[derive(Debug)]
pub(super) struct Nonces {
    /// How many proofs each is good for; nothing is asked for if `None`.
    uses: Option<u32>,
    current: String,
    used: u32,
}

impl Nonces {
    pub(super) fn new(uses: Option<u32>) -> Self {
        Self { uses, current: random("nonce"), used: 0 }
    }

    /// What to send along with an answer.
    pub(super) fn current(&self) -> Option<&str> {
        self.uses.map(|_| self.current.as_str())
    }

    /// Accepts the current nonce, which after so many uses becomes another; with none asked for, anything.
    pub(super) fn accept(&mut self, nonce: Option<&str>) -> bool {
        let Some(uses) = self.uses else { return true };
        if nonce != Some(&self.current) {
            return false;
        }
        self.used += 1;
        if self.used >= uses {
            *self = Self::new(Some(uses));
        }
        true
    }

    /// Makes the current nonce old.
    pub(super) fn rotate(&mut self) {
        *self = Self::new(self.uses);
    }
}
