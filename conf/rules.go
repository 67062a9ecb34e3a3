package conf

import (
	"errors"
	"fmt"
	"os"

	"github.com/BurntSushi/toml"

	"github.com/kiteq/kiteq/handler/access"
)

// readRules reads the file of the rules, if there is one. Every problem is in the error, and no hash.
func (c *Config) readRules() error {
	if c.Auth.File == "" {
		return nil
	}
	text, err := os.ReadFile(c.Auth.File)
	if err != nil {
		return fmt.Errorf("auth file: %w: name one that can be read in [auth] file", err)
	}
	var rules access.Rules
	meta, err := toml.Decode(string(text), &rules)
	if err != nil {
		var syntax toml.ParseError
		if errors.As(err, &syntax) { // its text may quote the line
			return fmt.Errorf("auth file %s: line %d is not understood", c.Auth.File, syntax.Position.Line)
		}
		return fmt.Errorf("auth file %s: a value is of the wrong kind: see doc/security.md", c.Auth.File)
	}
	var problems []error
	for _, key := range meta.Undecoded() {
		problems = append(problems, fmt.Errorf("auth file %s: key %q is not known: see doc/security.md", c.Auth.File, key.String()))
	}
	if err := rules.Validate(); err != nil {
		problems = append(problems, fmt.Errorf("auth file %s: %w", c.Auth.File, err))
	}
	if len(rules.Groups) == 0 {
		problems = append(problems, fmt.Errorf("auth file %s: no group may join: add [groups], %q is all that are not named", c.Auth.File, access.Others))
	}
	if info, err := os.Stat(c.Auth.File); err == nil && info.Mode()&0o007 != 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("auth file %s can be read by everybody on this machine: chmod 640", c.Auth.File))
	}
	c.Rules = rules
	return errors.Join(problems...)
}
