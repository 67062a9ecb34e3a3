// Package page shows a broker to people: one HTML page for each question an operator has, on the admin port.
package page
