use super::*;
use crate::certificate::Permission as Permit;

#[test]
fn every_permission_has_a_name_of_its_own() {
    for permission in Permission::ALL {
        assert_eq!(Permission::named(permission.name()), Some(permission));
        let only = Channels::of([permission]);
        let allowed: Vec<_> = Permission::ALL.into_iter().filter(|other| only.allow(*other)).collect();
        assert_eq!(allowed, vec![permission]);
    }
    assert_eq!(Permission::named("Shell"), None);
    assert_eq!(Permission::named(""), None);
}

#[test]
fn rules_add_up_and_nothing_is_nothing() {
    let both = Channels::of([Permission::Shell]).or(Channels::of([Permission::Agent]));
    assert!(both.allow(Permission::Shell) && both.allow(Permission::Agent) && !both.allow(Permission::Exec));
    assert!(both.allow_pty());
    assert!(Permission::ALL.into_iter().all(|permission| !Channels::NONE.allow(permission)));
    assert!(!Channels::NONE.allow_pty());
    assert_eq!(Channels::NONE.or(both), both);
    assert_eq!(both.or(Channels::NONE), both);
}

#[test]
fn a_certificate_takes_away_what_it_does_not_name_and_gives_nothing() {
    let all = Channels::of(Permission::ALL);
    let bare = all.within(&[Permit::UserRc]);
    assert_eq!(bare.or(Channels::NONE), bare);
    assert!(!bare.allow_pty());
    for permission in Permission::ALL {
        let session = matches!(permission, Permission::Shell | Permission::Exec | Permission::Sftp);
        assert_eq!(bare.allow(permission), session, "{permission:?}");
    }
    let named = [
        (Permit::PortForwarding, vec![Permission::LocalForward, Permission::RemoteForward]),
        (Permit::AgentForwarding, vec![Permission::Agent]),
        (Permit::X11Forwarding, vec![Permission::X11]),
    ];
    for (permit, permissions) in named {
        let given: Vec<_> = Permission::ALL.into_iter().filter(|one| all.within(&[permit]).allow(*one) && !bare.allow(*one)).collect();
        assert_eq!(given, permissions);
    }
    assert!(all.within(&[Permit::Pty]).allow_pty());
    assert_eq!(Channels::NONE.within(&[Permit::Pty, Permit::PortForwarding]), Channels::NONE);
}
