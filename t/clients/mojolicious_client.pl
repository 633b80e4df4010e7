#!/usr/bin/perl
# Mojolicious's own client, asked to compress. It reads no parameter of the answer, and keeps its
# context whatever that says. Run by t/real_clients.rs: mojolicious_client.pl URL WORDS...
# It sends each of WORDS, as often as they say (COUNT*TEXT), and expects it back; then it says so,
# hears one message, prints its length and closes.

use Mojo::Base -strict;
use Mojo::IOLoop;
use Mojo::UserAgent;

$| = 1;
my ($url, @words) = @ARGV;
my @texts = map { my ($count, $text) = split /\*/, $_, 2; $text x $count } @words;
my $agent = Mojo::UserAgent->new(inactivity_timeout => 60);
my $status = 1;

sub give_up {
  say STDERR @_;
  exit 1;
}

$agent->websocket(
  $url => {'Sec-WebSocket-Extensions' => 'permessage-deflate'} => sub {
    my ($agent, $socket) = @_;
    give_up('no WebSocket: ', $socket->res->code // 'nothing') unless $socket->is_websocket;
    say 'open ', $socket->res->headers->sec_websocket_extensions // 'nothing';
    give_up('it does not compress') unless $socket->compressed;
    my $sent = 0;
    $socket->max_websocket_size(1 << 20);
    $socket->on(text => sub {
      my ($socket, $bytes) = @_;
      if ($sent > @texts) {
        say 'heard ', length $bytes;
        return $socket->finish(1000);
      }
      give_up('heard: ', substr $bytes, 0, 200) unless $bytes eq $texts[$sent - 1];
      if ($sent == @texts) {
        $sent++;
        return say 'echoed';
      }
      $socket->send({text => $texts[$sent++]});
    });
    $socket->on(finish => sub {
      my ($socket, $code) = @_;
      $status = 0 if $code == 1000;
      Mojo::IOLoop->stop;
    });
    $socket->send({text => $texts[$sent++]});
  }
);
Mojo::IOLoop->start;
exit $status;
