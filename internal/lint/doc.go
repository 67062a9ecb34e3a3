// Package lint holds the project to its import table and to the style rules that a program can check.
// It is only tests: go test ./internal/lint.
package lint
