// Package zktest runs real ZooKeeper servers, and links to them that can be cut, for tests.
package zktest
