//! AUTH and SELECT.

use proto::redis::Role;

use super::pair::{Pair, Told};

fn words(command: &[&[Vec<u8>]]) -> Vec<String> {
    command
        .iter()
        .map(|words| String::from_utf8_lossy(&words.join(&b' ')).into_owned())
        .collect()
}

#[test]
fn user_password_and_database_are_sent_as_they_are() {
    let mut pair = Pair::new(Role::Subscriber, "redis://al%20ice:p%40ss%0D%0A@h/3");
    pair.connect();
    pair.run();
    assert_eq!(words(&pair.server.taken("AUTH")), ["al ice p@ss\r\n"]);
    assert_eq!(words(&pair.server.taken("SELECT")), ["3"]);
    pair.expect(&[Told::Up(None)]);
}

#[test]
fn nothing_follows_an_auth_that_is_not_answered() {
    let mut pair = Pair::new(Role::Subscriber, "redis://:secret@h");
    pair.connect();
    pair.send();
    pair.serve();
    assert_eq!(words(&pair.server.taken("AUTH")), ["secret"]);
    assert_eq!(pair.server.log.len(), 1);
}

#[test]
fn a_server_without_users_gets_the_password_alone() {
    let mut pair = Pair::new(Role::Subscriber, "redis://alice:secret@h");
    pair.server
        .errors
        .insert("AUTH", "-ERR wrong number of arguments for 'auth' command");
    pair.connect();
    pair.send();
    pair.serve();
    pair.server.errors.clear();
    pair.run();
    assert_eq!(
        words(&pair.server.taken("AUTH")),
        ["alice secret", "secret"]
    );
    pair.expect(&[Told::Up(None)]);
}

#[test]
fn a_wrong_password_is_told_once_and_tried_again() {
    let mut pair = Pair::new(Role::Subscriber, "redis://:secret@h");
    let error = "-WRONGPASS invalid username-password pair or user is disabled.";
    pair.server.errors.insert("AUTH", error);
    pair.connect();
    pair.run();
    let cause = error[1..].to_owned();
    pair.expect(&[Told::Down(cause.clone()), Told::Disconnect(cause.clone())]);
    pair.wait(60_000);
    let again = pair.told();
    assert!(
        again.len() > 10
            && again
                .iter()
                .all(|told| *told == Told::Disconnect(cause.clone()))
    );
    pair.server.errors.clear();
    pair.wait(5_000);
    assert!(matches!(pair.told().last(), Some(Told::Up(Some(60_000..)))));
}

#[test]
fn a_password_that_the_server_repeats_is_hidden() {
    let mut pair = Pair::new(Role::Publisher, "redis://:secret@h");
    let error = "-ERR unknown command 'AUTH', with args beginning with: 'secret'";
    pair.server.errors.insert("AUTH", error);
    pair.connect();
    pair.run();
    let cause = "ERR unknown command 'AUTH', with args beginning with: '***'".to_owned();
    pair.expect(&[Told::Down(cause.clone()), Told::Disconnect(cause)]);
}

#[test]
fn a_database_that_is_not_there_is_told() {
    let mut pair = Pair::new(Role::Publisher, "redis://h/99");
    pair.server
        .errors
        .insert("SELECT", "-ERR DB index is out of range");
    pair.connect();
    pair.run();
    let cause = "ERR DB index is out of range".to_owned();
    pair.expect(&[Told::Down(cause.clone()), Told::Disconnect(cause)]);
}
