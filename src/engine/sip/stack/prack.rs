//! Where a PRACK of ours goes (RFC 3262 §4): as every request of a dialog to the far end's Contact, by the Routes that its answer recorded (RFC
//! 3261 §12.1.2, §12.2.1.1). The crate reads both in a 2xx alone, and would send it to where the INVITE went.
//!
//! It is told that the first Route is whom it speaks to, so that the PRACK goes there; what stands in it then is put right on its way out.

use std::sync::{Mutex, PoisonError};

use rsipstack::dialog::dialog::Dialog;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::{Header, HeadersExt as _, Request, Response, Uri};

/// What the newest answer before the 2xx says of it: Contact and Routes.
#[derive(Default)]
pub(super) struct Aim(Mutex<Option<(Uri, Vec<Header>)>>);

impl Aim {
    /// An answer that wants a PRACK, before the crate writes it.
    pub(super) fn take(&self, dialog: InviteDialog, response: &Response) {
        let contact = response.typed_contact_headers().unwrap_or_default().into_iter().next();
        let Some(contact) = contact else { return };
        let mut routes = response.typed_record_route_headers().unwrap_or_default();
        routes.reverse();
        let nearest = routes.first().map_or_else(|| contact.uri.clone(), |route| route.uri.clone());
        Dialog::Invite(dialog).set_remote_target(nearest, response.contact_header().ok().cloned());
        let routes = routes.iter().map(|route| Header::Route(route.to_string().into())).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((contact.uri, routes));
    }

    /// Into the PRACK as the crate writes it.
    pub(super) fn give(&self, prack: &mut Request) {
        let aim = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((contact, routes)) = &*aim {
            prack.uri = contact.clone();
            prack.headers.extend(routes.clone());
        }
    }
}
