// Package admin answers operators over HTTP: is the broker alive, is it ready, what is it doing.
package admin
