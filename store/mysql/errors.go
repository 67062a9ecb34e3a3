package mysql

import (
	"errors"
	"slices"

	"github.com/go-sql-driver/mysql"

	"github.com/kiteq/kiteq/internal/kite"
)

// Errors of the server that mean something here.
const (
	errDatabaseDenied = 1044
	errLoginDenied    = 1045
	errNull           = 1048 // a column cannot be null
	errNoDatabase     = 1049
	errNoTable        = 1146
	errTableDenied    = 1142
	errColumnDenied   = 1143
	errPacket         = 1153 // larger than max_allowed_packet
	errDeadlock       = 1213
	errDenied         = 1227
	errTableExists    = 1050
)

// isServer tells whether the error is the server's, with one of the numbers if there are any.
func isServer(err error, numbers ...uint16) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && (len(numbers) == 0 || slices.Contains(numbers, e.Number))
}

// hopeless are errors that the same statement would get again, whatever becomes of the server: a fault of
// ours, or tables that are not as they were made. All others are worth another try, even those that an
// operator must mend: a full disk, a password that was changed, a server that takes no writes for now.
var hopeless = []uint16{
	1052, 1054, 1062, 1064, 1072, 1136, 1146, 1149, 1153, 1210, 1231, 1264, 1305, 1364, 1366, 1406, errNull,
}

// explain says what to do about an error of the server, in a kite.Error. The server's own texts have no
// password in them.
func (o *Options) explain(err error) error {
	if err == nil {
		return nil
	}
	var known *kite.Error
	if errors.As(err, &known) {
		return err
	}
	switch {
	case isServer(err, errLoginDenied):
		return kite.Errorf(kite.Unauthorized, "mysql %s: user %q is refused, check the user and the password in -db: %w", o.Master, o.User, err)
	case isServer(err, errDatabaseDenied, errTableDenied, errColumnDenied, errDenied):
		return kite.Errorf(kite.Unauthorized, "mysql %s: user %q may not do all that a broker does: GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX ON `%s`.* TO it: %w",
			o.Master, o.User, o.DB, err)
	}
	return kite.Errorf(kite.Unavailable, "mysql %s: %w", o.Master, err)
}
