// Package mock is a journal that keeps nothing: with it the rest of a broker can be measured without a store.
package mock
