// Package clienttest holds a scripted broker and a registry in memory, for the tests of programs that
// use package client: real connections and real frames, and no server to install.
//
// A Broker accepts everything unless told otherwise by OnPublish, OnConnect or Mute, and keeps what
// it received in queues (Published, Acks, Verdicts, ...) that a test waits on. Relay makes it a
// small broker that delivers what is published to the groups bound in a Registry. It forgets
// everything when it is closed, and is no broker to run.
package clienttest
