package conf

import (
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/DeRuina/timberjack"

	"github.com/kiteq/kiteq/internal/kite"
)

// The log file is rotated at this size, MiB, and so many old ones are kept.
const (
	logMiB  = 100
	logKept = 5
)

// What LogFormat may be.
const (
	formatText = "text"
	formatJSON = "json"
)

// logName is the log file's name when nobody gives one.
const logName = "kiteq.log"

// Log is where the log goes.
type Log struct {
	io.Writer
	// Level is what is logged at least. It may be changed at any time.
	Level *slog.LevelVar
	// File is the log file's path, "" when the log goes to the given writer.
	File   string
	format string
	close  func() error
}

// Logger returns a logger that writes here.
func (l *Log) Logger() *slog.Logger {
	o := &slog.HandlerOptions{Level: l.Level}
	if l.format == formatJSON {
		return slog.New(slog.NewJSONHandler(l, o))
	}
	return slog.New(slog.NewTextHandler(l, o))
}

// Close releases the log file. Nothing may be written afterwards.
func (l *Log) Close() error {
	if l.close == nil {
		return nil
	}
	return l.close()
}

// OpenLog returns the log that c asks for: a file in LogPath, the file that LogXML names, or otherwise. A
// LogPath replaces the directory that LogXML names. A file that cannot be written is an error now, not at
// the first line.
func OpenLog(c Config, otherwise io.Writer) (*Log, error) {
	level, file, err := c.levelAndFile()
	if err != nil {
		return nil, err
	}
	l := &Log{Writer: otherwise, Level: new(slog.LevelVar), File: file, format: c.LogFormat}
	l.Level.Set(level)
	if c.LogPath != "" {
		name := logName
		if l.File != "" {
			name = filepath.Base(l.File)
		}
		l.File = filepath.Join(c.LogPath, name)
	}
	if l.File == "" {
		return l, nil
	}
	if err := os.MkdirAll(filepath.Dir(l.File), 0o755); err != nil {
		return nil, fmt.Errorf("log file: %w: name a directory that can be written with -logPath", err)
	}
	probe, err := os.OpenFile(l.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("log file: %w: name a directory that can be written with -logPath", err)
	}
	if err := probe.Close(); err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	rotated := &timberjack.Logger{Filename: l.File, MaxSize: logMiB, MaxBackups: logKept, FileMode: 0o644}
	l.Writer, l.close = rotated, rotated.Close
	return l, nil
}

// Level returns the level of LogLevel, or else of LogXML, or else Info.
func (c *Config) Level() (slog.Level, error) {
	level, _, err := c.levelAndFile()
	return level, err
}

func (c *Config) levelAndFile() (level slog.Level, file string, err error) {
	if c.LogXML != "" {
		if level, file, err = readLog4go(c.LogXML); err != nil {
			return 0, "", fmt.Errorf("-logxml %s: %w", c.LogXML, err)
		}
	}
	if c.LogLevel != "" {
		level, err = ParseLevel(c.LogLevel)
	}
	return level, file, err
}

// ParseLevel reads debug, info, warn or error.
func ParseLevel(text string) (slog.Level, error) {
	switch text {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, kite.Errorf(kite.Invalid, "log_level %.32q: use debug, info, warn or error", text)
}

// log4go is a configuration of the logger that the original KiteQ used. Only what OpenLog asks for is read.
type log4go struct {
	Filters []struct {
		Enabled    string `xml:"enabled,attr"`
		Level      string `xml:"level"`
		Properties []struct {
			Name  string `xml:"name,attr"`
			Value string `xml:",chardata"`
		} `xml:"property"`
	} `xml:"filter"`
}

func readLog4go(path string) (slog.Level, string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, "", fmt.Errorf("%w: correct the path, or take -logxml away", err)
	}
	return parseLog4go(data)
}

// parseLog4go returns the level and the file of the first enabled filter that names a file, or the level of
// the first enabled one and no file.
func parseLog4go(data []byte) (slog.Level, string, error) {
	var config log4go
	if err := xml.Unmarshal(data, &config); err != nil {
		return 0, "", fmt.Errorf("this is no log4go configuration: %w", err)
	}
	chosen, file := -1, ""
	for i, f := range config.Filters {
		if !strings.EqualFold(strings.TrimSpace(f.Enabled), "true") {
			continue
		}
		if chosen < 0 {
			chosen = i
		}
		for _, p := range f.Properties {
			if p.Name == "filename" && file == "" {
				chosen, file = i, strings.TrimSpace(p.Value)
			}
		}
	}
	if chosen < 0 {
		return 0, "", fmt.Errorf("none of the %d filters is enabled: enable one", len(config.Filters))
	}
	level, err := log4goLevel(config.Filters[chosen].Level)
	return level, file, err
}

// log4goLevel maps log4go's eight levels to our four.
func log4goLevel(name string) (slog.Level, error) {
	switch strings.ToUpper(strings.TrimSpace(name)) {
	case "FINEST", "FINE", "DEBUG", "TRACE":
		return slog.LevelDebug, nil
	case "INFO":
		return slog.LevelInfo, nil
	case "WARNING", "WARN":
		return slog.LevelWarn, nil
	case "ERROR", "CRITICAL":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("level %q: use FINEST, FINE, DEBUG, TRACE, INFO, WARNING, ERROR or CRITICAL", name)
}
