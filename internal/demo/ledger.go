package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ledger is the shop's database: one file for each payment. Writing the file is the local transaction.
type ledger struct{ dir string }

// insert commits the payment's row.
func (l ledger) insert(id, row string) error {
	draft := filepath.Join(l.dir, "."+id)
	if err := os.WriteFile(draft, []byte(row), 0o600); err != nil {
		return err
	}
	return os.Rename(draft, filepath.Join(l.dir, id))
}

// has tells whether the payment's row is there.
func (l ledger) has(id string) (bool, error) {
	_, err := os.Stat(filepath.Join(l.dir, id))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// rows returns every payment by its id.
func (l ledger) rows() (map[string]string, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, err
	}
	rows := map[string]string{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue // a draft of a till that died
		}
		row, err := os.ReadFile(filepath.Join(l.dir, e.Name()))
		if err != nil {
			return nil, err
		}
		rows[e.Name()] = string(row)
	}
	return rows, nil
}
