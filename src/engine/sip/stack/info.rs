//! INFO of a far end inside a call: its keys ([`sip::info`](crate::sip::info)) go to the call, all else is refused by the RFC's word.

use rsipstack::sip::{Header, HeadersExt as _, StatusCode};
use rsipstack::transaction::transaction::Transaction;

use super::{Call, Heard, uas};
use crate::sip::info::{ACCEPT, Info, read};

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
