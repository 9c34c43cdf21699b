-- Which installation this file belongs to: the same id stands in all four files, so that a file
-- that was lost, emptied or taken from elsewhere is noticed at the start.

CREATE TABLE installation (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    id TEXT NOT NULL,
    -- 1 once all files of the installation have the id; read in the configuration's file alone.
    whole INTEGER NOT NULL CHECK (whole IN (0, 1))
);
