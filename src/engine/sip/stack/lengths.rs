//! What a stream says of the length of its messages (RFC 3261 §18.3, §20.14), line by line as the crate reads it, ahead of it. The crate adds a
//! Content-Length to the length of the head without a look whether that can be done, and knows no space ahead of a colon (§25.1, HCOLON): who
//! announces more than a message may have is told so here, and such a space changes places with its colon. A line of a body may look like one:
//! nobody means so large a number there either, and no length changes.

/// The crate reads no longer message.
const MOST_ANNOUNCED: u64 = 65_535;

#[derive(Default)]
pub(super) struct Lengths {
    name: Vec<u8>,
    part: Part,
}

/// Of a line.
#[derive(Default)]
enum Part {
    #[default]
    Name,
    /// Behind the name, since here. `None`: since a piece before this one, which is out of reach.
    Space(Option<usize>),
    /// What it says so far.
    Length(u64),
    Other,
}

impl Lengths {
    /// `false`: a message announces too much.
    pub(super) fn take(&mut self, bytes: &mut [u8]) -> bool {
        if let Part::Space(at) = &mut self.part {
            *at = None;
        }
        (0..bytes.len()).all(|at| self.take_one(bytes, at))
    }

    fn take_one(&mut self, bytes: &mut [u8], at: usize) -> bool {
        const NAMES: [&[u8]; 2] = [b"content-length", b"l"];
        let is_it = NAMES.iter().any(|name| self.name.eq_ignore_ascii_case(name));
        match (bytes[at], &mut self.part) {
            (b'\n', part) => {
                *part = Part::Name;
                self.name.clear();
            }
            (b':', part @ Part::Name) => *part = if is_it { Part::Length(0) } else { Part::Other },
            (b':', part @ Part::Space(_)) => {
                if let Part::Space(Some(space)) = *part {
                    bytes.swap(space, at);
                }
                *part = Part::Length(0);
            }
            (b' ' | b'\t', part @ Part::Name) if is_it => *part = Part::Space(Some(at)),
            (b' ' | b'\t', Part::Space(_)) => {}
            (_, Part::Name) if self.name.len() < NAMES[0].len() => self.name.push(bytes[at]),
            (_, part @ (Part::Name | Part::Space(_))) => *part = Part::Other,
            (digit @ b'0'..=b'9', Part::Length(length)) => {
                *length = length.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
                return *length <= MOST_ANNOUNCED;
            }
            _ => {}
        }
        true
    }
}

/// For `crate::fuzz`: a stream is judged alike in whatever pieces it comes, and keeps its bytes.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn fuzz(data: &[u8]) {
    let (mut whole, mut parted) = (data.to_vec(), Lengths::default());
    let is_taken = Lengths::default().take(&mut whole);
    assert_eq!(data.to_vec().chunks_mut(3).all(|piece| parted.take(piece)), is_taken);
    let mut again = whole.clone();
    assert_eq!(Lengths::default().take(&mut again), is_taken);
    assert_eq!(again, whole, "nothing more changes its place");
    let [was, is] = [data, &whole[..]].map(|bytes| {
        let mut bytes = bytes.to_vec();
        bytes.sort_unstable();
        bytes
    });
    assert_eq!(was, is);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_announces_what_it_may_have() {
        let takes = |text: &str| {
            let (mut whole, mut parted) = (Lengths::default(), Lengths::default());
            let taken = whole.take(&mut text.to_owned().into_bytes());
            assert_eq!(text.bytes().all(|byte| parted.take(&mut [byte])), taken, "however it comes: {text}");
            taken
        };
        for text in [
            "INVITE sip:1@h SIP/2.0\r\nContent-Length: 65535\r\n\r\n",
            "SIP/2.0 200 OK\nl:0\n\n",
            "A\r\nl: 5\r\nX-Content-Length: 99999\r\nContent-Length-Of: 99999\r\nCall-ID: 99999\r\n",
            "A\r\nContent-Length: \r\n99999\r\n:99999\r\n",
        ] {
            assert!(takes(text), "{text}");
        }
        for text in [
            "A\r\nContent-Length: 65536\r\n",
            "A\r\nContent-Length \t : 65536\r\n",
            "A\r\ncontent-length:18446744073709551615",
            "A\r\nContent-Length: 5\r\n\r\nhelloINVITE\r\nL:   99999999999999999999999999\r\n",
            &format!("A\nCONTENT-LENGTH:{}0000018446744073709551615", " ".repeat(9000)),
        ] {
            assert!(!takes(text), "{text}");
        }
    }

    #[test]
    fn a_colon_behind_a_space_changes_its_place() {
        for (text, expected) in [
            ("A: 1\r\nContent-Length \t: 5\r\n\r\nhello", "A: 1\r\nContent-Length:\t  5\r\n\r\nhello"),
            ("L :5\n", "L: 5\n"),
            (
                "Content-Length: 5\r\nl\t5\r\nContent-Lengths : 5\r\n l : 5",
                "Content-Length: 5\r\nl\t5\r\nContent-Lengths : 5\r\n l : 5",
            ),
        ] {
            let mut bytes = text.to_owned().into_bytes();
            assert!(Lengths::default().take(&mut bytes));
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
    }
}
