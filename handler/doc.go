// Package handler turns wire commands into the broker's work: one method for each command, each in its
// own file, and the two ways out, answers and deliveries.
package handler
