// Package webhook asks a publishing group over HTTP about its undecided messages, while nobody of it is connected.
package webhook
