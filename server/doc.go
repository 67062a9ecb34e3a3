// Package server assembles the broker: it is the only package that knows every part, and it starts and
// stops them in order.
package server
