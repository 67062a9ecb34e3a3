// Package transport carries frames between sockets and the handler, on gnet's event loops.
package transport
