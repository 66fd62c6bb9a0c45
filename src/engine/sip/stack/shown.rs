//! The certificate that a stack shows to far sides that connect to it over TLS: two files of PEM, looked at once a second and read again
//! when they have changed. Connections that are open go on; what can't be read leaves the old certificate in place.

use std::time::Duration;

use rsipstack::platform::CancellationToken;
use tokio_rustls::TlsAcceptor;

use super::super::Certificate;
use crate::engine::watched::Watched;
use crate::net::tls::Identity;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Its task ends with the stack.
pub(super) fn show(certificate: &Certificate, ending: &CancellationToken) -> Result<TlsAcceptor, String> {
    let Certificate { chain, key } = certificate;
    let files = Watched::new([chain.clone(), key.clone()]);
    let identity = Identity::of_files(chain, key).map_err(|error| format!("tls_certificate: {error}"))?;
    let acceptor = TlsAcceptor::from(identity.over_tcp(&[])?);
    tokio::spawn(keep(identity, files, ending.clone()));
    Ok(acceptor)
}

async fn keep(identity: Identity, mut files: Watched<2>, ending: CancellationToken) {
    while tokio::time::timeout(LOOK_EVERY, ending.cancelled()).await.is_err() {
        // Chain and key are two files: between the two writes they don't fit.
        match files.look(false, || identity.renew()) {
            None => {}
            Some(Ok(changed)) => tracing::info!(changed, "the certificate of a SIP address was read again"),
            Some(Err(failed)) => {
                if let Some(error) = failed.news {
                    tracing::error!("the old certificate of a SIP address goes on: {error}");
                }
            }
        }
    }
}
