// Package e2e tests the real binary: brokers as processes of their own, over a real registry, with the
// client library and with raw frames. It has no code but its tests.
package e2e
