import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

/** Runs the statements of a file in Flink inside this process, as sql-client would, and prints what the queries give: FILE. */
final class FlinkSql {
    public static void main(String[] arguments) throws Exception {
        TableEnvironment tables = TableEnvironment.create(EnvironmentSettings.inBatchMode());
        tables.getConfig().set("parallelism.default", "2");
        for (String part : Files.readString(Path.of(arguments[0])).replaceAll("(?m)^\\s*--.*$", "").split(";\\s*(\\n|$)")) {
            String statement = part.strip();
            // The mode is chosen above; SET belongs to sql-client.
            if (statement.isEmpty() || statement.startsWith("SET ")) {
                continue;
            }
            TableResult result = tables.executeSql(statement);
            if (!statement.startsWith("SELECT")) {
                continue;
            }
            try (CloseableIterator<Row> rows = result.collect()) {
                while (rows.hasNext()) {
                    System.out.println(rows.next());
                }
            }
        }
    }
}
