//! Where a request's body ends, read beside the parser: [`Framing`] finds heads that say it twice.
//!
//! A head with both Content-Length and Transfer-Encoding is how requests are smuggled past a proxy that believes the other of the two
//! (RFC 9112 §6.3). hyper believes Transfer-Encoding and takes Content-Length out of what it shows, so the bytes themselves are looked at.
//! The reader keeps none of them, whatever their number. It follows bodies by their length; behind the first coded body it sees
//! nothing more, and needs not: the server closes such a connection behind its answer.

/// The longer of the two names.
const LONGEST: usize = "transfer-encoding".len();

/// What one connection has sent so far.
#[derive(Debug)]
pub(super) struct Framing {
    place: Place,
    /// The name of the present line in small letters, as far as it may be one of the two.
    name: [u8; LONGEST],
    name_len: usize,
    /// The request line has begun: an empty line ends the head. Before it, empty lines mean nothing (RFC 9112 §2.2).
    begun: bool,
    length: Option<u64>,
    is_coded: bool,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Before a line's colon.
    Name,
    Value {
        is_length: bool,
    },
    Body(u64),
    Blind,
}

impl Default for Framing {
    fn default() -> Self {
        Self { place: Place::Name, name: [0; LONGEST], name_len: 0, begun: false, length: None, is_coded: false }
    }
}

impl Framing {
    /// `true`: a head in here gives both.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> bool {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.place {
                Place::Blind => return false,
                Place::Body(left) => {
                    let skipped = left.min(bytes.len() as u64);
                    bytes = &bytes[skipped as usize..];
                    self.place = Place::Body(left - skipped);
                    if left == skipped {
                        *self = Self::default();
                    }
                    continue;
                }
                Place::Name if byte == b':' => self.named(),
                Place::Name if byte == b'\n' && self.name_len == 0 && self.begun => {
                    if self.head() {
                        return true;
                    }
                }
                Place::Name | Place::Value { .. } if byte == b'\n' => self.line(),
                Place::Name if byte == b'\r' => {}
                Place::Name => {
                    self.begun = true;
                    if let Some(letter) = self.name.get_mut(self.name_len) {
                        *letter = byte.to_ascii_lowercase();
                    }
                    self.name_len = self.name_len.saturating_add(1);
                }
                Place::Value { is_length: true } => self.digit(byte),
                Place::Value { is_length: false } => {}
            }
            bytes = rest;
        }
        false
    }

    /// What comes next belongs to a body, or stands behind a coded one.
    pub(super) fn is_in_body(&self) -> bool {
        matches!(self.place, Place::Body(_) | Place::Blind)
    }

    /// A head has begun, and its end has not come.
    pub(super) fn is_in_head(&self) -> bool {
        self.begun && !self.is_in_body()
    }

    fn line(&mut self) {
        (self.place, self.name_len) = (Place::Name, 0);
    }

    fn named(&mut self) {
        let name = self.name.get(..self.name_len).unwrap_or_default();
        let is_length = name == b"content-length";
        self.is_coded |= name == b"transfer-encoding";
        if is_length {
            self.length = Some(0);
        }
        self.place = Place::Value { is_length };
    }

    /// What is no number here is none for hyper: it refuses the request.
    fn digit(&mut self, byte: u8) {
        if let (Some(length), b'0'..=b'9') = (self.length, byte) {
            self.length = Some(length.saturating_mul(10).saturating_add(u64::from(byte - b'0')));
        }
    }

    fn head(&mut self) -> bool {
        let is_twice = self.is_coded && self.length.is_some();
        match self.length {
            _ if self.is_coded => self.place = Place::Blind,
            Some(length) if length > 0 => self.place = Place::Body(length),
            _ => *self = Self::default(),
        }
        is_twice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &str = "POST /x HTTP/1.1\r\nhost: x:80\r\n";

    /// The same however the bytes are cut.
    fn is_twice(text: &str) -> bool {
        let whole = Framing::default().read(text.as_bytes());
        for size in [1, 2, 7] {
            let mut framing = Framing::default();
            let parts = text.as_bytes().chunks(size).filter(|part| framing.read(part)).count() > 0;
            assert_eq!(parts, whole, "in pieces of {size}: {text:?}");
        }
        whole
    }

    #[test]
    fn a_head_with_both_is_found_in_any_order_and_case() {
        for both in [
            "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
            "TRANSFER-ENCODING:chunked\nx: y\nCONTENT-LENGTH:4\n\n",
            "content-length:\r\ntransfer-encoding:\r\n\r\n",
        ] {
            assert!(is_twice(&format!("{POST}{both}")), "{both:?}");
            assert!(is_twice(&format!("\r\n\r\n{POST}content-length: 3\r\n\r\nabc{POST}{both}")), "the second request");
            assert!(is_twice(&format!("GET http://a:1/ HTTP/1.1\r\n\r\n{POST}{both}")), "behind one without a body");
        }
    }

    #[test]
    fn bodies_are_told_from_heads() {
        let mut framing = Framing::default();
        for (bytes, is_in_body) in [
            ("POST /x HTTP/1.1\r\ncontent-length: 3\r\n", false),
            ("\r\n", true),
            ("ab", true),
            ("c", false),
            ("GET /x HTTP/1.1\r\n\r\n", false),
            ("POST /x HTTP/1.1\r\ncontent-length: 1\r\n\r\naGET", false),
            (" /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", true),
            ("0\r\n\r\n", true),
        ] {
            framing.read(bytes.as_bytes());
            assert_eq!(framing.is_in_body(), is_in_body, "{bytes:?}");
            assert!(!is_in_body || !framing.is_in_head(), "{bytes:?}");
        }
    }

    #[test]
    fn one_of_them_is_none_of_its_business() {
        let hidden = format!("{POST}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n");
        assert!(!is_twice(&format!("{POST}content-length: {}\r\n\r\n{hidden}", hidden.len())), "a body is no head");
        assert!(!is_twice(&format!("{POST}transfer-encoding: chunked\r\n\r\n{hidden}")), "closed behind it");
        assert!(!is_twice(&format!("{POST}x-content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n")));
        assert!(!is_twice(&format!("{POST}content-lengthy: 4\r\ntransfer-encoding: chunked\r\n\r\n")));
        assert!(!is_twice(&format!("{POST}x: content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n")));
        assert!(!is_twice(&format!("{POST}content-length: {}\r\n\r\n{hidden}", "9".repeat(40))), "no overflow");
    }

    proptest::proptest! {
        /// Whatever comes, and however it is cut.
        #[test]
        fn pieces_are_read_like_the_whole(words in proptest::collection::vec(0..WORDS.len(), 0..60), size in 1..9usize) {
            let text: String = words.into_iter().map(|word| WORDS[word]).collect();
            let (mut whole, mut parts) = (Framing::default(), Framing::default());
            let found = whole.read(text.as_bytes());
            let in_parts = text.as_bytes().chunks(size).any(|part| parts.read(part));
            proptest::prop_assert_eq!(found, in_parts);
        }
    }

    const WORDS: [&str; 12] = [
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        ":",
        " ",
        "content-length",
        "Transfer-Encoding",
        "POST / HTTP/1.1\r\n",
        "3",
        "99999999999",
        "\u{e9}x",
    ];
}
