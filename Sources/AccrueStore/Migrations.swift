import GRDB

/// The tables. Invariants live here, so that no code path can break them: the log and the versions only grow, positions and versions are never
/// used twice, one key means one content. Which worker holds a chunk is only remembered so that a missing one
/// can be named: who brought it to the log, in its entry; others, in a table of their own.
enum Migrations {
    static var all: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1 pipelines, log, versions") { db in
            try db.execute(sql: """
                CREATE TABLE pipeline (
                    incarnation TEXT NOT NULL PRIMARY KEY,
                    name TEXT NOT NULL,
                    declaration TEXT NOT NULL,
                    phases TEXT NOT NULL,
                    paused TEXT,
                    deleted INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1))
                ) STRICT;
                CREATE UNIQUE INDEX pipelineName ON pipeline (name) WHERE deleted = 0;

                CREATE TABLE log (
                    incarnation TEXT NOT NULL REFERENCES pipeline,
                    position INTEGER NOT NULL CHECK (position > 0),
                    kind TEXT NOT NULL CHECK (kind IN ('chunk', 'cut', 'setAside')),
                    identity TEXT,
                    key TEXT,
                    retried INTEGER,
                    payload TEXT NOT NULL,
                    CHECK ((kind = 'chunk') = (identity IS NOT NULL)),
                    PRIMARY KEY (incarnation, position)
                ) STRICT, WITHOUT ROWID;
                \(logRules)

                CREATE TABLE version (
                    incarnation TEXT NOT NULL REFERENCES pipeline,
                    version INTEGER NOT NULL CHECK (version >= 0),
                    state TEXT NOT NULL,
                    through INTEGER NOT NULL CHECK (through >= 0),
                    absorbedChunks INTEGER NOT NULL,
                    absorbedRows INTEGER NOT NULL,
                    score TEXT,
                    reports TEXT NOT NULL,
                    bytes INTEGER NOT NULL,
                    createdAtMs INTEGER NOT NULL,
                    PRIMARY KEY (incarnation, version)
                ) STRICT, WITHOUT ROWID;
                CREATE TRIGGER versionIsFixed BEFORE UPDATE ON version BEGIN SELECT RAISE(ABORT, 'versions never change'); END;
                CREATE TRIGGER versionFollows BEFORE INSERT ON version
                WHEN NEW.version <> (SELECT coalesce(max(version), -1) + 1 FROM version WHERE incarnation = NEW.incarnation)
                  OR NEW.through <= (SELECT coalesce(max(through), -1) FROM version WHERE incarnation = NEW.incarnation)
                BEGIN SELECT RAISE(ABORT, 'a version follows the one before it'); END;

                CREATE TABLE holder (
                    incarnation TEXT NOT NULL REFERENCES pipeline,
                    identity TEXT NOT NULL,
                    worker TEXT NOT NULL,
                    PRIMARY KEY (incarnation, identity, worker)
                ) STRICT, WITHOUT ROWID;
                """)
        }
        migrator.registerMigration("2 imports and settings in the log") { db in
            try db.execute(sql: logAnew(kinds: "kind IN ('chunk', 'cut', 'setAside', 'import', 'settings')"))
        }
        // To SQLite a longer list is a table, which it makes and fills for every row: a quarter of what appending a chunk takes.
        migrator.registerMigration("3 kinds compared one by one") { db in
            try db.execute(sql: logAnew(kinds: "kind = 'chunk' OR kind = 'cut' OR kind = 'setAside' OR kind = 'import' OR kind = 'settings'"))
        }
        // The largest of all, which the one before has, was looked for among all versions, each time.
        migrator.registerMigration("4 a version compared with the one before it") { db in
            try db.execute(sql: """
                DROP TRIGGER versionFollows;
                CREATE TRIGGER versionFollows BEFORE INSERT ON version
                WHEN NEW.version <> (SELECT coalesce(max(version), -1) + 1 FROM version WHERE incarnation = NEW.incarnation)
                  OR NEW.through <= coalesce((SELECT through FROM version WHERE incarnation = NEW.incarnation AND version = NEW.version - 1), -1)
                BEGIN SELECT RAISE(ABORT, 'a version follows the one before it'); END;
                """)
        }
        return migrator
    }

    /// What holds for the log in all of its forms: part of migrations that have run, so it never changes.
    private static let logRules = """
        CREATE UNIQUE INDEX logKey ON log (incarnation, key) WHERE key IS NOT NULL AND retried IS NULL;
        CREATE UNIQUE INDEX logContent ON log (incarnation, identity) WHERE kind = 'chunk' AND key IS NULL AND retried IS NULL;
        CREATE UNIQUE INDEX logRetry ON log (incarnation, retried) WHERE retried IS NOT NULL;
        CREATE TRIGGER logStays BEFORE DELETE ON log BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
        CREATE TRIGGER logIsFixed BEFORE UPDATE ON log BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
        CREATE TRIGGER logHasNoGaps BEFORE INSERT ON log
        WHEN NEW.position <> 1 + (SELECT coalesce(max(position), 0) FROM log WHERE incarnation = NEW.incarnation)
        BEGIN SELECT RAISE(ABORT, 'positions follow each other'); END;
        """

    /// The log's table anew: SQLite cannot change a CHECK in place. The file of an import is named as a chunk's content is. Part of migrations that have
    /// run, so it never changes.
    private static func logAnew(kinds: String) -> String {
        """
        CREATE TABLE logAnew (
            incarnation TEXT NOT NULL REFERENCES pipeline,
            position INTEGER NOT NULL CHECK (position > 0),
            kind TEXT NOT NULL CHECK (\(kinds)),
            identity TEXT,
            key TEXT,
            retried INTEGER,
            payload TEXT NOT NULL,
            CHECK ((kind IN ('chunk', 'import')) = (identity IS NOT NULL)),
            CHECK (kind = 'chunk' OR (key IS NULL AND retried IS NULL)),
            PRIMARY KEY (incarnation, position)
        ) STRICT, WITHOUT ROWID;
        INSERT INTO logAnew SELECT incarnation, position, kind, identity, key, retried, payload FROM log;
        DROP TABLE log;
        ALTER TABLE logAnew RENAME TO log;
        \(logRules)
        """
    }
}
