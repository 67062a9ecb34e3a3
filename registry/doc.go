// Package registry is the contract of discovery: which brokers serve a topic and which consumer
// groups are bound to it. Its implementations are in the packages below; registrytest holds what all
// of them promise. Paths, data and order of the znodes are those of existing KiteQ clients.
package registry
