// Package admin answers operators over HTTP: is the broker alive, is it ready, what is it doing. What it
// serves under /stat, /binds and /reload has the shapes of the original KiteQ, which tools rely on.
package admin
