//! Letters of the far side that are no UTF-8. SIP has no other (RFC 3261 §7.3.1), and yet exchanges write names and phrases in Latin-1. The
//! crate reads a head up to the first line with such a letter: what stands behind it is lost, Call-ID and CSeq too, and with them an
//! INVITE or a final answer. So each such byte becomes a question mark before the crate sees it; nothing gets longer.

const END: &[u8] = b"\r\n\r\n";
const UNREADABLE: u8 = b'?';

/// Of a datagram: its head.
pub(super) fn head(datagram: &mut [u8]) {
    let length = datagram.windows(END.len()).position(|bytes| bytes == END).unwrap_or(datagram.len());
    let head = &mut datagram[..length];
    let missing = replace(head);
    if missing.open > 0 {
        head[length - missing.begun..].fill(UNREADABLE);
    }
}

/// Of a stream, which comes in pieces: bodies too, since nobody knows here where they begin.
#[derive(Default)]
pub(super) struct Letters {
    /// Bytes that the last piece's last letter lacks.
    open: usize,
}

impl Letters {
    pub(super) fn take(&mut self, piece: &mut [u8]) {
        let rest = piece.iter().take(self.open).take_while(|byte| (0x80..0xc0).contains(*byte)).count();
        self.open = if rest == piece.len() { self.open - rest } else { replace(&mut piece[rest..]).open };
    }
}

/// A letter of which only the begin is there: so many bytes, and so many that it lacks.
#[derive(Default)]
struct Begun {
    begun: usize,
    open: usize,
}

fn replace(mut bytes: &mut [u8]) -> Begun {
    while let Err(error) = std::str::from_utf8(bytes) {
        let at = error.valid_up_to();
        let Some(length) = error.error_len() else {
            let begun = bytes.len() - at;
            let whole = match bytes[at] {
                ..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            return Begun { begun, open: whole - begun };
        };
        bytes[at..at + length].fill(UNREADABLE);
        bytes = &mut bytes[at + length..];
    }
    Begun::default()
}

/// For `crate::fuzz`: a head can be read then, and what could be read is as it was.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn fuzz(data: &[u8]) {
    let mut datagram = data.to_vec();
    head(&mut datagram);
    let length = data.windows(END.len()).position(|bytes| bytes == END).unwrap_or(data.len());
    assert!(std::str::from_utf8(&datagram[..length]).is_ok() && datagram[length..] == data[length..]);
    assert!(datagram == data || std::str::from_utf8(&data[..length]).is_err());
    // However a stream comes that can be read, it stays.
    if std::str::from_utf8(data).is_ok() {
        for size in 1..=5 {
            let (mut letters, mut stream) = (Letters::default(), data.to_vec());
            stream.chunks_mut(size).for_each(|piece| letters.take(piece));
            assert_eq!(stream, data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_stays_and_the_rest_is_a_question_mark() {
        for (text, expected) in [
            (
                &b"From: \"M\xfcller\" <sip:1@h>\r\nTo: x\r\n\r\n\xff\xfe"[..],
                &b"From: \"M?ller\" <sip:1@h>\r\nTo: x\r\n\r\n\xff\xfe"[..],
            ),
            ("From: \"Müller €𝄞\"\r\n\r\n".as_bytes(), "From: \"Müller €𝄞\"\r\n\r\n".as_bytes()),
            (b"SIP/2.0 486 Besetzt f\xfcr", b"SIP/2.0 486 Besetzt f?r"),
            (b"A\xe2\x82", b"A??"),
            (b"A\xe2\x82\r\n\r\n\xe2", b"A??\r\n\r\n\xe2"),
            (b"\xc3", b"?"),
            (b"", b""),
        ] {
            let mut datagram = text.to_vec();
            head(&mut datagram);
            assert_eq!(datagram, expected, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_stream_is_read_in_whatever_pieces() {
        let text = b"f: \"M\xfcller\"\r\nS: \xe2\x82\xac \xf0\x9d\x84\x9e \xc3\xbc\r\n\r\n".as_slice();
        let expected = "f: \"M?ller\"\r\nS: € 𝄞 ü\r\n\r\n";
        for size in 1..=text.len() {
            let (mut letters, mut stream) = (Letters::default(), text.to_vec());
            stream.chunks_mut(size).for_each(|piece| letters.take(piece));
            // The begin of a letter at the end of a piece was let through: nobody could know.
            let read = String::from_utf8_lossy(&stream).replace('\u{fffd}', "?");
            assert_eq!(read, expected, "in pieces of {size}");
        }
    }
}
