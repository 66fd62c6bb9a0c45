//! What the last four digits of a number mean.

/// What the phone does when it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers, says its clip, records what it hears.
    Speak,
    /// The same after three more seconds.
    SpeakLate,
    /// Says its clip before it answers (early media), and from its beginning once it has.
    SpeakEarly,
    /// Says its clip, and that the number is none: 404.
    Announce,
    /// Answers and records; sends nothing.
    Listen,
    /// Answers, gives back what it hears, and records it.
    Echo,
    /// Says its clip and hangs up at its end.
    SpeakAndLeave,
    /// Answers and records, presses a few keys, says nothing.
    Press,
    /// Speaks and refuses a transfer. All others accept it.
    RefuseTransfer,
    /// Speaks and never says what becomes of a transfer.
    IgnoreTransfer,
    /// Answers; nobody is there.
    Empty,
    /// Rings, never answers.
    Ring,
    /// The far side's first hop says nothing at all.
    Silent,
    /// There is no first hop.
    Unreachable,
    /// Answers with this SIP status, 300..=699.
    Reject { code: u16 },
}

impl Behaviour {
    pub fn of(number: &str) -> Self {
        match ending(number) {
            Some(9000) => Self::Ring,
            Some(9001) => Self::Silent,
            Some(9002) => Self::SpeakLate,
            Some(9003) => Self::Unreachable,
            Some(9004) => Self::SpeakEarly,
            Some(9005) => Self::Announce,
            Some(9011) => Self::Listen,
            Some(9012) => Self::Echo,
            Some(9013) => Self::SpeakAndLeave,
            Some(9014) => Self::Press,
            Some(9021) => Self::RefuseTransfer,
            Some(9022) => Self::IgnoreTransfer,
            Some(9030) => Self::Empty,
            Some(ending @ 9300..=9699) => Self::Reject { code: ending - 9000 },
            _ => Self::Speak,
        }
    }

    /// Whether a person says this, who has heard it ring; other answers come from machines on the way, at once.
    pub fn rings_first(self) -> bool {
        !matches!(self, Self::Reject { code } if !matches!(code, 408 | 487 | 603 | 607))
    }
}

/// The last four digits of the user part of a number, `tel:` or `sip:` URI, without what people write between digits.
fn ending(number: &str) -> Option<u16> {
    let user = number.split(['@', ';']).next()?;
    let mut value = 0;
    let mut digits = user.chars().rev().filter(|c| !matches!(c, ' ' | '-' | '.' | '(' | ')'));
    for place in [1, 10, 100, 1000] {
        value += digits.next()?.to_digit(10)? as u16 * place;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings() {
        let of = Behaviour::of;
        assert_eq!(of("+15550009486"), Behaviour::Reject { code: 486 });
        assert_eq!(of("+1 (555) 000-9.603"), Behaviour::Reject { code: 603 });
        assert_eq!(of("sip:+15550009012@example.net;user=phone"), Behaviour::Echo);
        assert_eq!(of("tel:+15550009000;ext=9012"), Behaviour::Ring);
        assert_eq!((of("+15550009004"), of("+15550009005")), (Behaviour::SpeakEarly, Behaviour::Announce));
        for speaks in ["+15550009010", "+15551234567", "9299", "9700", "", "012", "sip:alice@9486.net", "+15550009020"]
        {
            assert_eq!(of(speaks), Behaviour::Speak, "{speaks:?}");
        }
    }

    #[test]
    fn people_hear_it_ring_and_machines_do_not() {
        assert!(Behaviour::of("9603").rings_first() && Behaviour::of("9408").rings_first());
        assert!(!Behaviour::of("9480").rings_first() && !Behaviour::of("9404").rings_first());
        assert!(Behaviour::of("9010").rings_first());
    }
}
