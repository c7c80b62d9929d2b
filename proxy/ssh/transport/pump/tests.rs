use super::*;

#[test]
fn the_gate_is_open_below_the_mark_and_during_an_exchange_and_never_without_end() {
    assert_eq!(gate(false, 0), Gate::Open);
    assert_eq!(gate(false, HIGH - 1), Gate::Open);
    assert_eq!(gate(false, HIGH), Gate::Shut);
    assert_eq!(gate(false, usize::MAX), Gate::Shut);
    assert_eq!(gate(true, HIGH), Gate::Open);
    assert_eq!(gate(true, BURST - 1), Gate::Open);
    assert_eq!(gate(true, BURST), Gate::Burst);
}

#[test]
fn a_message_becomes_what_the_verdict_says() {
    use crate::conn::tests::{Seen, data, drain, feed, logged_in};
    let ((mut client, mut user), (mut upstream, mut server)) = (logged_in(), logged_in());
    for number in 0..5 {
        client.send(&data(number, 10)).unwrap();
    }
    let bytes = drain(&mut client);
    assert_eq!(user.receive(&bytes), bytes.len());
    let mut verdicts = vec![Verdict::Unknown, Verdict::Answer(data(100, 1)), Verdict::Replace(data(200, 1)), Verdict::Drop, Verdict::Pass];
    let mut look = |_: &[u8]| verdicts.pop().unwrap();
    assert_eq!(pump(&mut user, &mut upstream, 2, &mut look), Ok(Pumped::Messages(2)), "no more than it was asked for");
    assert_eq!(pump(&mut user, &mut upstream, 0, &mut look), Ok(Pumped::Messages(0)));
    assert_eq!(pump(&mut user, &mut upstream, usize::MAX, &mut look), Ok(Pumped::Messages(3)));
    let passed = feed(&mut server, &drain(&mut upstream)).unwrap();
    assert_eq!(passed, vec![Seen::Message(data(0, 10)), Seen::Message(data(200, 1))]);
    let answered = feed(&mut client, &drain(&mut user)).unwrap();
    assert_eq!(answered, vec![Seen::Message(data(100, 1))], "and an UNIMPLEMENTED, which ends in the transport");
    client.disconnect(11, "bye");
    user.receive(&drain(&mut client));
    let pumped = pump(&mut user, &mut upstream, usize::MAX, &mut |_| Verdict::Pass);
    assert_eq!(pumped, Ok(Pumped::Disconnect { reason: 11, text: "bye".to_owned() }));
}
