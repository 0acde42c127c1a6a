// runfile
