// Command kiteqctl publishes to KiteQ brokers, subscribes to them, and shows and decides what they
// hold, from the command line. It also looks into the journal of a stopped one.
package main
