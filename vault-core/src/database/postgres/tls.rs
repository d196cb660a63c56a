//! How the server's certificate is verified, by libpq's `sslmode`.

mod vouched;

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, Result};
use crate::file;

use super::super::url::{Mode, Roots, Tls};
use vouched::Vouched;

/// The connector for what a URL demands.
pub(super) fn connector(tls: &Tls) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(ring::default_provider());
    let versions: &[&SupportedProtocolVersion] = match (tls.newest_only, tls.older_only) {
        (false, false) => &[&TLS12, &TLS13],
        (true, false) => &[&TLS13],
        (false, true) => &[&TLS12],
        (true, true) => return Err(unusable("ssl_min_protocol_version above ssl_max_protocol_version")),
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|_| unusable("the TLS versions of this build"))?;
    // libpq verifies the authority where it is given one, whatever less is demanded.
    let mode = match tls.mode {
        Mode::Prefer | Mode::Require if matches!(tls.roots, Roots::File(_)) => Mode::VerifyCa,
        mode => mode,
    };
    let builder = match mode {
        Mode::VerifyFull => builder.with_webpki_verifier(chain(tls, provider)?.0),
        Mode::VerifyCa => {
            let (chain, roots) = chain(tls, Arc::clone(&provider))?;
            let looser = tls.revoked.is_none().then(|| Vouched::new(roots, provider));
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName { chain, looser }))
        }
        Mode::Disable | Mode::Prefer | Mode::Require => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody { provider }))
        }
    };
    let config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let content = file::read(key, MAX_FILE)?;
            let key = PrivateKeyDer::from_pem_slice(content.expose_secret())
                .map_err(|_| unusable("sslkey, which is no private key in PEM,"))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, key)
                .map_err(|_| unusable("the pair of sslcert and sslkey"))?
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

/// What verifies a server's chain up to the authorities that are trusted, and their certificates, but
/// for those that browsers trust.
fn chain(
    tls: &Tls,
    provider: Arc<CryptoProvider>,
) -> Result<(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>)> {
    let trusted = match &tls.roots {
        Roots::Browsers => Vec::new(),
        Roots::File(path) => certificates(path)?,
        Roots::Machine => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    if tls.roots == Roots::Browsers {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    } else if roots.add_parsable_certificates(trusted.iter().cloned()).0 == 0 {
        return Err(unusable("sslrootcert, which holds no authority,"));
    }
    let revoked = match &tls.revoked {
        None => Vec::new(),
        Some(path) => {
            let content = file::read(path, MAX_FILE)?;
            CertificateRevocationListDer::pem_slice_iter(content.expose_secret())
                .collect::<Result<_, _>>()
                .map_err(|_| unusable("sslcrl, which is not PEM,"))?
        }
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).with_crls(revoked).build();
    Ok((verifier.map_err(|_| unusable("the authorities of sslrootcert, or sslcrl,"))?, trusted))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let content = file::read(path, MAX_FILE)?;
    CertificateDer::pem_slice_iter(content.expose_secret())
        .collect::<Result<_, _>>()
        .map_err(|_| unusable("a file of certificates, which is not PEM,"))
}

/// `verify-ca`: an authority vouches for the server, under whatever name.
#[derive(Debug)]
struct AnyName {
    chain: Arc<WebPkiServerVerifier>,
    /// For certificates that PostgreSQL's manual makes and webpki refuses.
    looser: Option<Vouched>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is what is looked at last.
        match self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            Err(error) if is_of_form(&error) => match &self.looser {
                Some(vouched) if vouched.for_server(end_entity, intermediates, now) => {
                    Ok(ServerCertVerified::assertion())
                }
                _ => Err(error),
            },
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match (self.chain.verify_tls12_signature(message, cert, dss), &self.looser) {
            (Err(error), Some(vouched)) if is_of_form(&error) => vouched.signed_tls12(message, cert, dss),
            (verified, _) => verified,
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match (self.chain.verify_tls13_signature(message, cert, dss), &self.looser) {
            (Err(error), Some(vouched)) if is_of_form(&error) => vouched.signed_tls13(message, cert, dss),
            (verified, _) => verified,
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// `prefer` and `require`: encrypted, by whomever. Asked for in so many words, never the default.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether webpki refuses the form of a certificate, as an authority's own for a server, or X.509 v1.
fn is_of_form(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(CertificateError::BadEncoding | CertificateError::Other(_)))
}

fn unusable(what: &str) -> Error {
    Error::Database { action: "prepare an encrypted connection".to_owned(), reason: format!("{what} cannot be used") }
}

/// Longest file of certificates, in bytes.
const MAX_FILE: usize = 4 << 20;
