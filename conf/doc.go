// Package conf reads the broker's configuration: command-line flags over a TOML file over defaults.
package conf
