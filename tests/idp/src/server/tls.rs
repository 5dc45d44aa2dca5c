//! TLS: a certificate authority for each server, and what listens with it.

use std::{fmt, sync::Arc};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    client::{danger::HandshakeSignatureValid, verify_server_name},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use tokio_rustls::TlsAcceptor;

use super::algorithm::certificate_thumbprint;

/// What a client that speaks HTTP/2 chooses in the handshake (RFC 9113 section 3.2).
pub(super) const HTTP2: &[u8] = b"h2";

/// The certificate of a client, with its private key.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate and, after it, those between it and the authority: PEM.
    pub certificate: String,
    /// The private key: PEM, PKCS#8.
    pub key: String,
    /// The SHA-256 thumbprint of the certificate in base64url, as in `x5t#S256`.
    pub thumbprint: String,
}

impl ClientCertificate {
    /// One that nobody stands behind.
    pub fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let certificate = for_client(name).self_signed(&key).expect("a certificate");
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            thumbprint: certificate_thumbprint(certificate.der()),
        }
    }
}

/// The authority of a server.
pub(crate) struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let root = CertifiedIssuer::self_signed(authority("keyfob-idp"), key).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).expect("a certificate of an authority");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        Self { verifier: verifier.build().expect("an authority"), root }
    }

    /// The authority's own certificate: PEM.
    pub(crate) fn pem(&self) -> String {
        self.root.pem()
    }

    /// A certificate for a client of a DNS name, behind an authority in between.
    pub(crate) fn certify(&self, name: &str) -> ClientCertificate {
        let between = CertifiedIssuer::signed_by(
            authority("keyfob-idp, in between"),
            KeyPair::generate().expect("a key"),
            &self.root,
        )
        .expect("a certificate");
        let key = KeyPair::generate().expect("a key");
        let certificate = for_client(name).signed_by(&key, &between).expect("a certificate");
        ClientCertificate {
            certificate: format!("{}{}", certificate.pem(), between.pem()),
            key: key.serialize_pem(),
            thumbprint: certificate_thumbprint(certificate.der()),
        }
    }

    /// Whether the authority stands behind these certificates, of which the first is for a DNS name.
    pub(super) fn vouches_for(&self, certificates: &[Vec<u8>], name: &str) -> bool {
        let certificates: Vec<CertificateDer<'_>> =
            certificates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let Some((own, between)) = certificates.split_first() else { return false };
        let chain = self.verifier.verify_client_cert(own, between, UnixTime::now());
        let (Ok(parsed), Ok(name)) = (ParsedCertificate::try_from(own), ServerName::try_from(name)) else {
            return false;
        };
        chain.is_ok() && verify_server_name(&parsed, &name).is_ok()
    }

    /// The certificate of a server on loopback, and its key.
    pub(crate) fn for_loopback(&self) -> (Certificate, KeyPair) {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.root).expect("a certificate"), key)
    }

    /// What a listener on loopback shakes hands with; it asks for a client certificate and takes any or none.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let (certificate, key) = self.for_loopback();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a private key");
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has the usual protocols")
            .with_client_cert_verifier(Arc::new(AnyCertificate(provider())))
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("certificate and key belong together");
        config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn for_client(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).expect("a DNS name");
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Takes every certificate whose key signed the handshake: whose it is, client authentication judges.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
