package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kiteq/kiteq/handler/access"
)

func newHash(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "hash",
		Short: "Make the hash of a secret key or token, for the broker's auth file",
		Long: `hash reads a key of 1 to 72 bytes from the terminal, where it is not shown, or a line of standard input, and prints
its bcrypt hash: an element of keys in the file that [auth] file of a broker names.`,
		Example: `  kiteqctl hash
  openssl rand -base64 30 | tee till.key | kiteqctl hash`,
		Args: names(0),
		RunE: action(func(*cobra.Command, []string) error {
			key, err := readKey(g.in, g.err)
			if err != nil {
				return err
			}
			hash, err := access.Hash(key)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(g.out, hash)
			return err
		}),
	}
}

// readKey reads a key, which is never an argument: others could see it.
func readKey(in io.Reader, prompt io.Writer) (string, error) {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(prompt, "key: ")
		key, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(prompt)
		return string(key), err
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), err
}
