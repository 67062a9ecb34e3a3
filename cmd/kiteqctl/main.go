package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// terminal is what the commands read, write and reach; tests put other things in its place.
type terminal struct {
	in       io.Reader
	out, err io.Writer
	secret   string // the group's key
	token    string // NAME:TOKEN of an operator
	user     string // who gives orders, "" when nobody says
	colours  bool   // the output is a terminal that shows them
	registry func(ctx context.Context, zkhost string) (directory, func(), error)
	program  func(name string) (path string, err error) // finds another program
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	colours := isTerminal(os.Stdout) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	code := run(ctx, os.Args[1:], terminal{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, secret: os.Getenv(secretVariable), token: os.Getenv(tokenVariable), user: os.Getenv("USER"), colours: colours,
		registry: openZooKeeper, program: beside,
	})
	stop()
	os.Exit(code)
}
