//! INFO inside a call. Keys of the far end ([`sip::info`](crate::sip::info)) go to the call, all else is refused by the RFC's word; keys of ours go
//! out one by one.

use rsipstack::sip::{Header, HeadersExt as _, Method, StatusCode};
use rsipstack::transaction::transaction::Transaction;

use super::{Call, Heard, Line, mend, uas};
use crate::sip::info::{ACCEPT, Info, RELAY, read, relay};

/// RFC 6086 §4.2.2: of a package that nobody agreed on.
const BAD_INFO_PACKAGE: u16 = 469;

pub(super) async fn answer(call: &Call, request: &mut Transaction) -> rsipstack::Result<()> {
    if request.original.header_value("Info-Package").is_some() {
        let none = Header::Other("Recv-Info".to_owned(), String::new());
        return request.reply_with(StatusCode::from(BAD_INFO_PACKAGE), vec![none], None).await;
    }
    let content_type = request.original.header_value("Content-Type").or_else(|| request.original.header_value("c"));
    match read(content_type.as_deref(), &request.original.body) {
        Info::Key { key, duration_ms } => uas::tell(call, Heard::Key { key, duration_ms }),
        Info::Nothing => {}
        Info::Spoiled => return request.reply(StatusCode::BadRequest).await,
        Info::Foreign => {
            let accept = vec![Header::Accept(ACCEPT.into())];
            return request.reply_with(StatusCode::UnsupportedMediaType, accept, None).await;
        }
    }
    request.reply(StatusCode::OK).await
}

impl Line {
    /// A key for the far end; what it answers is [`Heard::Pressed`].
    pub(in crate::engine::sip) fn press(&self, key: char, duration_ms: u32) {
        let (dialog, way, heard) = (self.dialog.clone(), self.way.clone(), self.heard.clone());
        let headers = vec![Header::ContentType(RELAY.into())];
        tokio::spawn(async move {
            // Not by the crate's `info`, which logs the body: digits may be a secret.
            let body = relay(key, duration_ms).into_bytes();
            let answered = match way.is_fit(&dialog) {
                true => dialog.request(Method::Info, Some(headers), Some(body)).await.ok().flatten(),
                false => None,
            };
            // What the crate says by itself nobody answered.
            let said = answered.filter(|response| !mend::is_made_up(response));
            // A call that nobody follows any more is over.
            let _ = heard.send(Heard::Pressed { code: said.map(|response| response.status_code.code()) });
        });
    }
}
