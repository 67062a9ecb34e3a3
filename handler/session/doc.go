// Package session knows who is connected: the sessions, and which of them are members of a group.
package session
